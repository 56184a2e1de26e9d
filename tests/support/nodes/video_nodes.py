"""Videos with sound, through the nodes that read and save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longtake.headless.hosts.stand_in.modules import VideoFromFile
from longtake.tests.support.clips import beeps, write_clip
from longtake.tests.support.node_bench import Bench

RATE = 48000


def video(folder: Path, seconds: float = 3, name: str = "x.mkv") -> VideoFromFile:
    """A numbered video of 48x32 with sound."""
    codec = "ffv1" if name.endswith("mkv") else "libx264"
    sound = beeps(seconds, RATE)
    write_clip(folder / name, round(16 * seconds), size=(48, 32), sound=sound, codec=codec)
    return VideoFromFile(str(folder / name))


def read(bench: Bench, given: Any, **inputs: Any) -> Any:
    return bench.run("LongtakeVideoToFrames", video=given, **inputs)


def shot(bench: Bench, seconds: float, known: Any, **inputs: Any) -> Any:
    """A generated shot of 48x32."""
    length = {"length": seconds, "length_unit": "seconds", "width": 48, "height": 32}
    return bench.rollout(known_frames=known, **length, **inputs)[0]


def save(bench: Bench, frames: Any, audio: Any, **inputs: Any) -> Path:
    bench.run("LongtakeSaveVideo", frames=frames, audio=audio, **inputs)
    suffix = {"mkv (lossless)": "mkv"}.get(inputs.get("format", ""), "mp4")
    return sorted((bench.state.folders["output"] / "longtake").glob(f"*.{suffix}"))[-1]
