"""One long shot of the demo model, with journal, decoder and video file, measured chunk by
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
from ...stream.video.spec import VideoSpec
from ...stream.video.writer import VideoWriter, open_video
from .._shared.demo import COLUMNS, ROWS, demo_dit, demo_prompt, demo_vae
from .._shared.measures import Measurement
from .._shared.process_memory import resident_bytes
from .._shared.records import Job

STORAGES: dict[str, Storage] = {"as computed": DENSE, "int8": Packed(INT8, DEMO.chunk_frames)}
PROMPT = "a red ball over green hills by day"
COLLECT_EVERY = 100  # chunks between collections: uncollected garbage is not growth
LOOKED_BACK = 16  # newest chunks searched in the journal

Row = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LongShotPlan:
    """The shot: length, window with sink, and `steps` per chunk; the storages to run (empty: all).

    A quarter of the demo's picture and half of its steps save time. `record` is the file of
    finished shots.
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
        """Length in whole chunks, rounded up."""
        return -(-self.latent_frames // DEMO.chunk_frames) * DEMO.chunk_frames


@dataclass(frozen=True, slots=True)
class ShotTrace:
    """The measurements of one shot.

    For each chunk: processor seconds of all threads, resident bytes, and the numbers of chunks not
    yet in the file and in the journal. Other programs do not change processor seconds. For each
    latent frame: its mean change from the one before.
    """

    seconds: Sequence[float]
    resident: Sequence[float]
    unfiled: Sequence[float]
    unkept: Sequence[float]
    change: Sequence[float]


def trace_of(measured: Measurement) -> ShotTrace:
    """Split the columns that `shot` returns."""
    seconds, resident, unfiled, unkept, *change = measured.features.T
    latent_by_latent = np.stack(change, 1).ravel()[1:]  # the first frame has no predecessor
    return ShotTrace(
        *(column.tolist() for column in (seconds, resident, unfiled, unkept, latent_by_latent))
    )


def shot(plan: LongShotPlan, job: Job) -> Measurement:
    """Make, journal, decode and save one shot with the storage and seed of `job`.

    Returns a row of figures for each chunk, as `trace_of` reads them.
    """
    name, seed = job
    with TemporaryDirectory() as folder:
        rollout, vae = _rollout(plan, STORAGES[name], seed, Path(folder)), demo_vae()
        frames = FrameStream(rollout, lambda: StreamingDecoder(vae), DEMO.fps)
        spec = VideoSpec(frames.width, frames.height, frames.fps)
        with open_video(Path(folder) / "long.mp4", spec) as video:
            return Measurement({}, np.stack([*_rows(frames, rollout, video)]))


def _rollout(plan: LongShotPlan, storage: Storage, seed: int, folder: Path) -> Rollout:
    tree, sizes = demo_dit()
    settings = RolloutSettings(
        prompts=demo_prompt(PROMPT), rows=plan.rows, columns=plan.columns,
        length=plan.length, seed=seed,
        schedule=preset_schedule(replace(DEMO, steps=plan.steps)),
        guidance=cfg(DEMO.guidance_scale), storage=storage,
        cache=WindowSink(plan.window_frames, plan.sink_frames),
    )  # fmt: skip
    return Rollout(
        RolloutSpec(settings, local_denoiser(tree, sizes), "bench", Journal(folder / "journal"))
    )


def _rows(frames: FrameStream, rollout: Rollout, video: VideoWriter) -> Iterator[Row]:
    before, frame_count, began = None, 0, time.process_time()
    for chunk in frames.chunks:
        video.write(chunk.frames)
        seconds = time.process_time() - began
        frame_count += len(chunk.frames)
        assert chunk.latents is not None
        latents = chunk.latents.latents.numpy()
        joined = np.concatenate([latents[:1] if before is None else before, latents])
        before = latents[-1:].copy()
        change = np.abs(np.diff(joined, axis=0)).mean((1, 2, 3))
        unfiled = -(-(frame_count - video.frames_written) // len(chunk.frames))
        if chunk.index % COLLECT_EVERY == 0:
            gc.collect()
        yield np.array([seconds, resident_bytes(), unfiled, _unkept(rollout, chunk.index), *change])
        began = time.process_time()


def _unkept(rollout: Rollout, index: int) -> int:
    """Count the chunks up to `index` that are not in the journal, among the newest LOOKED_BACK."""
    newest = range(max(0, index + 1 - LOOKED_BACK), index + 1)
    return sum(rollout.spec.key(i) not in rollout.spec.journal for i in newest)
