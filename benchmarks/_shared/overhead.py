"""The time of a whole run by part: model, VAE, encoding to a file, and the engine's rest.

The run is the real one, headless: rollout over a journal on disk, decoder, MP4. The encoder works
on its own thread, so its time is the time that the run waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ParamSpec, TypeVar
from unittest import mock

from ...model import dit
from ...model.dit import predict, project_text
from ...model.preset import DEMO
from ...model.vae.streaming import StreamingDecoder
from ...samplers.denoiser import local_denoiser
from ...samplers.guidance import cfg
from ...samplers.schedule.levels import flow_ladder
from ...samplers.schedule.rows import causal_chunks
from ...samplers.settings import RolloutSettings
from ...stream.journal.journal import Journal
from ...stream.rollout.frame_stream import FrameStream
from ...stream.rollout.rollout import Rollout
from ...stream.rollout.spec import RolloutSpec
from ...stream.video.spec import VideoSpec
from ...stream.video.writer import open_video
from .demo import COLUMNS, ROWS, demo_dit, demo_vae, random_prompt

P = ParamSpec("P")
R = TypeVar("R")


class Clock:
    """Seconds spent in timed functions since the last read."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def time_run(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function`, timed on this clock."""

        def run(*arguments: P.args, **options: P.kwargs) -> R:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.spent_s += time.perf_counter() - began

        return run

    def read(self) -> float:
        """Return the seconds spent and start again from zero."""
        spent, self.spent_s = self.spent_s, 0.0
        return spent


def chunk_times(chunks: int) -> dict[str, list[float]]:
    """Return seconds of every chunk but the first: model, VAE, encode, and the engine's rest."""
    clocks = {name: Clock() for name in ("model", "VAE", "encode")}
    times: dict[str, list[float]] = {name: [] for name in (*clocks, "engine")}
    with TemporaryDirectory() as folder, _timed_model(clocks["model"]):
        frames = _frames(Path(folder), chunks, clocks["VAE"])
        spec = VideoSpec(frames.width, frames.height, frames.fps)
        with open_video(Path(folder) / "bench.mp4", spec) as video:
            write = clocks["encode"].time_run(video.write)
            began = time.perf_counter()
            for chunk in frames.chunks:
                write(chunk.frames)
                now = time.perf_counter()
                spent = {name: clock.read() for name, clock in clocks.items()}
                if chunk.index:
                    for name, seconds in spent.items():
                        times[name].append(seconds)
                    times["engine"].append(now - began - sum(spent.values()))
                began = now
    return times


def _frames(folder: Path, chunks: int, vae_clock: Clock) -> FrameStream:
    tree, sizes = demo_dit()
    settings = RolloutSettings(
        prompts=random_prompt(sizes.text_dim),
        rows=ROWS,
        columns=COLUMNS,
        schedule=causal_chunks(flow_ladder(DEMO.steps, DEMO.shift), DEMO.chunk_frames),
        length=chunks * DEMO.chunk_frames,
        guidance=cfg(DEMO.guidance_scale),
    )
    vae = demo_vae()

    def open_decoder() -> StreamingDecoder:
        decoder = StreamingDecoder(vae)
        decoder.feed = vae_clock.time_run(decoder.feed)  # type: ignore[method-assign]
        return decoder

    rolling = Rollout(
        RolloutSpec(settings, local_denoiser(tree, sizes), "bench", Journal(folder / "journal"))
    )
    return FrameStream(rolling, open_decoder, DEMO.fps)


@contextmanager
def _timed_model(clock: Clock) -> Iterator[None]:
    """Count every evaluation of the model and projection of the prompt as model time."""
    with (
        mock.patch.object(dit, "predict", clock.time_run(predict)),
        mock.patch.object(dit, "project_text", clock.time_run(project_text)),
    ):
        yield
