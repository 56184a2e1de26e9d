"""A shot of the demo with a second stage: alone, as one shot, or enlarged when it is finished.

Each run is whole: a rollout over a journal on disk, decoding, enlarging, and an MP4 file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ...model.preset import DEMO
from ...model.vae.streaming import StreamingDecoder
from ...samplers.denoiser import local_denoiser
from ...samplers.guidance import cfg
from ...samplers.schedule.options import preset_schedule
from ...samplers.settings import RolloutSettings
from ...stream.journal.journal import Journal
from ...stream.rollout.frame_stream import FrameStream
from ...stream.rollout.rollout import Rollout
from ...stream.rollout.spec import RolloutSpec
from ...stream.video.spec import VideoSpec
from ...stream.video.writer import VideoWriter, open_video
from .._shared.demo import COLUMNS, ROWS, demo_dit, demo_prompt, demo_vae
from .._shared.paired import Prepare
from .stages import STAGES, Stage

TEXT = "a red ball over green hills at noon"


@dataclass(frozen=True, slots=True)
class ShotTimes:
    """Seconds from the start of a run: to its first small frame, its first large one, its end."""

    first_small_s: float
    first_large_s: float
    total_s: float
    frames: int


Way = Callable[[FrameStream, Stage, Path], ShotTimes]


def base_alone(shot: FrameStream, _stage: Stage, file: Path) -> ShotTimes:
    """Save the small frames; a screen enlarges them."""
    clock = _Clock()
    with open_video(file, VideoSpec(shot.width, shot.height, shot.fps)) as video:
        for chunk in shot.chunks:
            clock.small(chunk.frames)
            clock.large(chunk.frames)
            video.write(chunk.frames)
    return clock.times()


def one_shot(shot: FrameStream, stage: Stage, file: Path) -> ShotTimes:
    """Enlarge each chunk when it is there."""
    clock, enlarger = _Clock(), stage.open()
    with _large_video(shot, file) as write:
        for chunk in shot.chunks:
            clock.small(chunk.frames)
            for larger in enlarger.feed(chunk.frames):
                write(clock.large(larger))
        for larger in enlarger.drain():
            write(clock.large(larger))
    return clock.times()


def afterwards(shot: FrameStream, stage: Stage, file: Path) -> ShotTimes:
    """Enlarge the finished shot as one batch, as nodes for an IMAGE do."""
    clock, parts = _Clock(), list[Tensor]()
    for chunk in shot.chunks:
        clock.small(chunk.frames)
        parts.append(chunk.frames)
    whole = stage.enlarge(torch.cat(parts))
    with _large_video(shot, file) as write:
        write(clock.large(whole))
    return clock.times()


BASE, ONE_SHOT, AFTERWARDS = "base alone", "one shot", "afterwards"
WAYS: Mapping[str, Way] = {BASE: base_alone, ONE_SHOT: one_shot, AFTERWARDS: afterwards}


class _Clock:
    """Notes when the first frames come, and counts them."""

    def __init__(self) -> None:
        self._began, self._firsts, self._frames = time.perf_counter(), dict[str, float](), 0

    def small(self, _frames: Tensor) -> None:
        """Note when the first small frames come."""
        self._firsts.setdefault("small", self._now)

    def large(self, frames: Tensor) -> Tensor:
        """Note large frames, and hand them on."""
        self._firsts.setdefault("large", self._now)
        self._frames += len(frames)
        return frames

    def times(self) -> ShotTimes:
        """What was noted, at the end."""
        return ShotTimes(self._firsts["small"], self._firsts["large"], self._now, self._frames)

    @property
    def _now(self) -> float:
        return time.perf_counter() - self._began


@contextmanager
def _large_video(shot: FrameStream, file: Path) -> Iterator[Callable[[Tensor], None]]:
    """A function that writes frames, whose first ones tell the size."""
    writers: list[VideoWriter] = []

    def write(frames: Tensor) -> None:
        if not writers:
            spec = VideoSpec(frames.shape[3], frames.shape[2], shot.fps)
            writers.append(open_video(file, spec).__enter__())
        writers[0].write(frames)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()


@torch.inference_mode()
def make_shot(way: str, stage: Stage, chunks: int, seed: int) -> ShotTimes:
    """Make a shot of the demo's own settings, in a folder of its own."""
    with TemporaryDirectory() as folder:
        shot = demo_shot(Path(folder), chunks, seed)
        return WAYS[way](shot, stage, Path(folder) / "bench.mp4")


def demo_shot(folder: Path, chunks: int, seed: int) -> FrameStream:
    """The frames of a rollout that has not begun."""
    tree, sizes = demo_dit()
    settings = RolloutSettings(
        prompts=demo_prompt(TEXT),
        rows=ROWS,
        columns=COLUMNS,
        schedule=preset_schedule(DEMO),
        length=chunks * DEMO.chunk_frames,
        seed=seed,
        guidance=cfg(DEMO.guidance_scale),
    )
    spec = RolloutSpec(settings, local_denoiser(tree, sizes), "bench", Journal(folder / "journal"))
    vae = demo_vae()
    return FrameStream(Rollout(spec), lambda: StreamingDecoder(vae), DEMO.fps)


def shot_case(name: str, chunks: int) -> Prepare:
    """A run for `peak_bytes`; `name` is a way and a stage, with a comma between."""
    way, stage = name.split(",")

    def prepare() -> Callable[[], object]:
        opened = STAGES[stage]()
        return lambda: make_shot(way, opened, chunks, 0)

    return prepare
