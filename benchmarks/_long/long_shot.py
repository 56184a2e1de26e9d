"""One long shot of the demo model, journal, decoder and video file included, watched from chunk to
chunk.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from ...attention.cache.policy import WindowSink
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT8
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
from ...stream.video.writer import VideoSpec, VideoWriter, open_video
from .._shared.demo import COLUMNS, ROWS, demo_dit, demo_vae, spoken
from .._shared.measures import Measured
from .._shared.process_memory import resident_bytes
from .._shared.records import Job

STORAGES: dict[str, Storage] = {"as computed": DENSE, "int8": Packed(INT8, DEMO.chunk_frames)}
PROMPT = "a red ball over green hills by day"
COLLECT_EVERY = 100  # chunks: what waits for Python's collector is not growth
LOOKED_BACK = 16  # chunks, for some that are not in the journal

Row = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made: latent frames on a window of so many with a sink, `steps` per chunk; on which
    storages (all: none named). `record` keeps the shots that are done. A quarter of the demo's
    picture and half of its steps, for the sake of time.
    """

    latent_frames: int = 10_000
    window_frames: int = DEMO.window_frames
    sink_frames: int = 3
    steps: int = 2
    rows: int = ROWS // 2
    columns: int = COLUMNS // 2
    storages: tuple[str, ...] = ()
    record: Path | None = None

    @property
    def length(self) -> int:
        """Whole chunks, never shorter."""
        return -(-self.latent_frames // DEMO.chunk_frames) * DEMO.chunk_frames


@dataclass(frozen=True, slots=True)
class Course:
    """One shot. For each chunk: processor seconds of all threads, which other programs do not
    change; resident bytes; chunks made that are not in the file yet, and not in the journal. For
    each latent frame its mean change from the one before.
    """

    seconds: Sequence[float]
    resident: Sequence[float]
    unfiled: Sequence[float]
    unkept: Sequence[float]
    change: Sequence[float]


def course_of(measured: Measured) -> Course:
    """The columns of `shot`."""
    seconds, resident, unfiled, unkept, *change = measured.features.T
    latent_by_latent = np.stack(change, 1).ravel()[1:]  # the first has none before it
    return Course(*(one.tolist() for one in (seconds, resident, unfiled, unkept, latent_by_latent)))


def shot(plan: Plan, job: Job) -> Measured:
    """Make, keep, decode and save one shot on the storage and with the seed of `job`: a row of
    figures for each chunk, as `course_of` reads them.
    """
    name, seed = job
    with TemporaryDirectory() as folder:
        rollout, vae = _rollout(plan, STORAGES[name], seed, Path(folder)), demo_vae()
        frames = FrameStream(rollout, lambda: StreamingDecoder(vae), DEMO.fps)
        spec = VideoSpec(frames.width, frames.height, frames.fps)
        with open_video(Path(folder) / "long.mp4", spec) as video:
            return Measured({}, np.stack([*_rows(frames, rollout, video)]))


def _rollout(plan: Plan, storage: Storage, seed: int, folder: Path) -> Rollout:
    tree, sizes = demo_dit()
    settings = RolloutSettings(
        prompts=spoken(PROMPT), rows=plan.rows, columns=plan.columns, length=plan.length, seed=seed,
        schedule=preset_schedule(replace(DEMO, steps=plan.steps)),
        guidance=cfg(DEMO.guidance_scale), storage=storage,
        cache=WindowSink(plan.window_frames, plan.sink_frames),
    )  # fmt: skip
    return Rollout(
        RolloutSpec(settings, local_denoiser(tree, sizes), "bench", Journal(folder / "journal"))
    )


def _rows(frames: FrameStream, rollout: Rollout, video: VideoWriter) -> Iterator[Row]:
    before, made, began = None, 0, time.process_time()
    for chunk in frames.chunks:
        video.write(chunk.frames)
        seconds = time.process_time() - began
        made += len(chunk.frames)
        assert chunk.latents is not None
        latents = chunk.latents.latents.numpy()
        joined = np.concatenate([latents[:1] if before is None else before, latents])
        before = latents[-1:].copy()
        change = np.abs(np.diff(joined, axis=0)).mean((1, 2, 3))
        unfiled = -(-(made - video.frames_written) // len(chunk.frames))
        if chunk.index % COLLECT_EVERY == 0:
            gc.collect()
        yield np.array([seconds, resident_bytes(), unfiled, _unkept(rollout, chunk.index), *change])
        began = time.process_time()


def _unkept(rollout: Rollout, index: int) -> int:
    """How many of the newest chunks, up to `index`, are not in the journal."""
    newest = range(max(0, index + 1 - LOOKED_BACK), index + 1)
    return sum(rollout.spec.key(i) not in rollout.spec.journal for i in newest)
