"""`longtake bench long`: is the ten thousandth latent frame like the hundredth?

One shot of the demo model on a window with a sink, journal, decoder and video file included: memory
held and time per chunk over its length, and whether the latents show a period at the window's
length or a seam at 1,024 frames, where models with a table of positions have one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from rich.console import Console

from ..attention.cache_policy import WindowSink
from ..attention.kv_storage import DENSE, Storage
from ..attention.packed_store import Packed
from ..attention.quantize import INT8
from ..model.preset import DEMO
from ..model.vae.streaming import StreamingDecoder
from ..samplers.denoiser import local_denoiser
from ..samplers.ladder import flow_ladder
from ..samplers.schedule import causal_chunks
from ..samplers.settings import RolloutSettings
from ..stream.journal import Journal
from ..stream.rollout_stream import FrameStream, Rollout
from ..stream.video import VideoSpec, open_video
from ._demo import COLUMNS, ROWS, demo_dit, demo_vae, one_prompt
from ._memory import resident_bytes
from ._paired import Interval
from ._report import Results

SEAM = 1024  # latent frames: the length of the usual table of rotary positions
WARM_UP = 0.05  # of the shot, while allocators and caches fill
BLOCKS = 40  # of chunks, whose medians the slope is taken over
RESAMPLES = 2000
STORAGES: dict[str, Storage] = {"dense": DENSE, "int8": Packed(INT8, DEMO.chunk_frames)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made: latent frames on a window of so many with a sink, `steps` per chunk."""

    latent_frames: int = 10_000
    window_frames: int = DEMO.window_frames
    sink_frames: int = 3
    steps: int = 1


@dataclass(slots=True)
class Measured:
    """Of one shot, chunk by chunk."""

    seconds: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)  # bytes
    waiting: list[int] = field(default_factory=list)  # chunks made and not yet in the file
    change: list[float] = field(default_factory=list)  # of each latent frame from the one before


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path` when there is one."""
    results = measure(Plan())
    results.show(Console(soft_wrap=True))
    if json_path is not None:
        results.save(json_path)


def measure(plan: Plan) -> Results:
    """A shot on each way to store the history."""
    results = Results("long")
    for name, storage in STORAGES.items():
        with TemporaryDirectory() as folder:
            measured = shot(plan, storage, Path(folder))
        _judge(results, f"{plan.latent_frames} latent frames, {name}", measured, plan)
    return results


def shot(plan: Plan, storage: Storage, folder: Path) -> Measured:
    """Make, keep, decode and save one shot."""
    tree, sizes = demo_dit()
    settings = RolloutSettings(
        prompts=one_prompt(sizes.text_dim), rows=ROWS, columns=COLUMNS,
        schedule=causal_chunks(flow_ladder(plan.steps, DEMO.shift), DEMO.chunk_frames),
        length=plan.latent_frames, storage=storage,
        cache=WindowSink(plan.window_frames, plan.sink_frames),
    )  # fmt: skip
    vae, measured = demo_vae(), Measured()
    rollout = Rollout(settings, local_denoiser(tree, sizes), "bench", Journal(folder / "journal"))
    frames = FrameStream(rollout, lambda: StreamingDecoder(vae), DEMO.fps)
    spec = VideoSpec(frames.width, frames.height, frames.fps)
    before, made, began = None, 0, time.perf_counter()
    with open_video(folder / "long.mp4", spec) as video:
        for chunk in frames.chunks:
            video.write(chunk.frames)
            made += len(chunk.frames)
            latents = chunk.latents.latents.numpy()
            joined = latents if before is None else np.concatenate([before, latents])
            measured.change += np.abs(np.diff(joined, axis=0)).mean((1, 2, 3)).tolist()
            before = latents[-1:].copy()
            measured.waiting.append(-(-(made - video.frames_written) // len(chunk.frames)))
            measured.seconds.append(time.perf_counter() - began)
            if chunk.index % 100 == 0:
                gc.collect()
            measured.resident.append(resident_bytes())
            began = time.perf_counter()
    return measured


def _judge(results: Results, name: str, measured: Measured, plan: Plan) -> None:
    warm = int(len(measured.seconds) * WARM_UP)
    results.samples[f"{name}: chunk"] = measured.seconds
    held = np.array(measured.resident[warm:], dtype=float)
    results.bytes[f"{name}: resident after warm-up"] = int(held[0])
    results.bytes[f"{name}: resident at most"] = int(held.max())
    results.at_most(f"{name}: memory grows by at most 2 %", held.max() / held[0] - 1, 0.02)
    slope = relative_slope(measured.seconds[warm:])
    results.figures[f"{name}: time per chunk, change over the shot"] = slope
    results.at_most(f"{name}: time per chunk does not grow by 5 % (low bound)", slope.low, 0.05)
    results.at_most(f"{name}: chunks waiting for journal and file", max(measured.waiting), 4)
    period = period_at(measured.change, plan.window_frames)
    results.at_most(
        f"{name}: correlation at the window's length above its neighbours'", period, 0.1
    )
    if len(measured.change) > SEAM + 3:
        results.at_most(f"{name}: the step at {SEAM}, in deviations", step_at(measured.change), 4.0)


def relative_slope(seconds: Sequence[float]) -> Interval:
    """How much the time per chunk changes from start to end, as a share of its median: the median
    of all slopes between medians of blocks (Theil and Sen), with its bootstrap 95 % interval.
    """
    count = min(BLOCKS, len(seconds))
    blocks = np.array([np.median(part) for part in np.array_split(np.array(seconds), count)])
    dice = np.random.default_rng(0)
    picks = [np.sort(dice.integers(0, count, count)) for _ in range(RESAMPLES)]
    slopes = np.array([_theil_sen(pick, blocks[pick]) for pick in picks])
    scale = count / float(np.median(blocks))
    low, high = np.percentile(slopes * scale, [2.5, 97.5])
    middle = _theil_sen(np.arange(count), blocks) * scale
    return Interval(middle, float(low), float(high), len(seconds))


def _theil_sen(x: npt.NDArray[np.int64], y: npt.NDArray[np.float64]) -> float:
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] - x[i]
    return float(np.median((y[j] - y[i])[apart > 0] / apart[apart > 0]))


def period_at(change: Sequence[float], lag: int, chunk: int = DEMO.chunk_frames) -> float:
    """How far the autocorrelation at `lag` stands above the median of its neighbours', whole chunks
    away: the step into a chunk is another one than those within, which is a period of its own.
    """
    x = np.array(change) - np.mean(change)
    whole = float((x * x).sum())
    around = [n for n in (lag + chunk * k for k in range(-3, 4)) if n > 0 and n != lag]
    of = {n: float((x[n:] * x[:-n]).sum()) / whole for n in (*around, lag)}
    return of[lag] - float(np.median([of[n] for n in around]))


def step_at(change: Sequence[float], frame: int = SEAM) -> float:
    """The largest step within two latent frames of `frame`, in deviations from the usual one."""
    x = np.array(change)
    return float((x[frame - 3 : frame + 2].max() - x.mean()) / x.std())
