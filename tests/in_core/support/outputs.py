"""What a workflow wrote or reported."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
from PIL import Image

from longtake.tests.in_core.support.client import Client, Run
from longtake.tests.in_core.support.graphs import CONTROL, SAVE, named


def frames_of(path: Path) -> list[np.ndarray]:
    """The pictures of a video file."""
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def packets(path: Path) -> list[bytes]:
    """The encoded pictures and sound of a video file, without the workflow in its header."""
    with av.open(str(path)) as video:
        return [bytes(packet) for packet in video.demux() if packet.size]


def pictures(client: Client, run: Run, at: str) -> list[np.ndarray]:
    """The pictures that the host's Save Image wrote."""
    files = [
        client.base / entry["type"] / entry["subfolder"] / entry["filename"]
        for entry in run.outputs[at]["images"]
    ]
    return [np.asarray(Image.open(file)).astype(np.int16) for file in files]


def frame_count(path: Path) -> int:
    """Pictures in a video file, decoded."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def saved(client: Client, run: Run, at: str = SAVE) -> Path:
    """The file that an output node reported."""
    [entry] = run.outputs[at]["images"]
    return client.base / entry["type"] / entry["subfolder"] / entry["filename"]


def newest_clip(client: Client) -> Path:
    """The video written last."""
    clips = (client.base / "output" / "longtake").glob("clip_*.mp4")
    return max(clips, key=lambda path: path.stat().st_mtime_ns)


def plain(client: Client, seed: int, name: str, lines: str = "") -> Path:
    """The video of the same shot without any control, generated from nothing."""
    shutil.rmtree(client.base / "output" / "longtake" / ".rollouts", ignore_errors=True)
    return saved(client, client.run(named(seed, name, lines)))


def seen(run: Run) -> list[str]:
    """What the controlling node reports."""
    assert run.end[0] == "execution_success", run.end
    return run.outputs[CONTROL]["text"]
