"""Long rollouts of the demo model, each in a process of its own, watched from chunk to chunk."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ..attention.cache_policy import AveragingSink, CachePolicy, MostAttended, WindowSink
from ..attention.kv_storage import DENSE, Storage
from ..attention.packed_store import Packed
from ..attention.quantize import INT4, INT8
from ..model.preset import DEMO
from ..samplers.cache_plan import planned_bytes
from ..samplers.denoiser import local_denoiser
from ..samplers.ladder import flow_ladder
from ..samplers.rollout import generate
from ..samplers.schedule import causal_chunks
from ..samplers.settings import RolloutSettings
from ..stream.metrics import peak_rss_bytes
from ._demo import COLUMNS, ROWS, demo_dit, one_prompt

STATM = Path("/proc/self/statm")
NEWEST = DEMO.chunk_frames  # latent frames that stay as computed
CASES: dict[str, tuple[CachePolicy, Storage]] = {
    "window + sink": (WindowSink(DEMO.window_frames, 3), DENSE),
    "window + sink, int8": (WindowSink(DEMO.window_frames, 3), Packed(INT8, NEWEST)),
    "window + sink, int4": (WindowSink(DEMO.window_frames, 3), Packed(INT4, NEWEST)),
    "EMA sink": (AveragingSink(DEMO.window_frames, 3), DENSE),
    "most attended": (MostAttended(DEMO.window_frames, 3), DENSE),
}


@dataclass(frozen=True, slots=True)
class Course:
    """One rollout, chunk by chunk: processor seconds, which other programs do not change, resident
    bytes (None where nothing tells) and bytes of the KV cache, beside those planned.
    """

    seconds: list[float]
    resident: list[int] | None
    kv_bytes: list[int]
    planned_bytes: int


def course(name: str, latent_frames: int) -> Course:
    """The course of a case, in a fresh process: what an earlier one freed is not counted."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(watched, name, latent_frames).result()


def watched(name: str, latent_frames: int) -> Course:
    """Make the rollout, keep nothing of it, and note what it takes."""
    torch.set_num_threads(1)
    tree, sizes = demo_dit()
    policy, storage = CASES[name]
    settings = RolloutSettings(
        one_prompt(sizes.text_dim), ROWS, COLUMNS,
        causal_chunks(flow_ladder(DEMO.steps, DEMO.shift), DEMO.chunk_frames),
        cache=policy, storage=storage,
    )  # fmt: skip
    seconds, resident, kv_bytes = [], [], []
    chunks = generate(settings, local_denoiser(tree, sizes))
    began = time.process_time()
    for chunk in islice(chunks, -(-latent_frames // DEMO.chunk_frames)):
        seconds.append(time.process_time() - began)
        kv_bytes.append(chunk.kv_bytes)
        resident.append(resident_bytes())
        began = time.process_time()
    known = [one for one in resident if one is not None]
    planned = planned_bytes(settings, sizes, torch.float32)
    return Course(seconds, known or None, kv_bytes, planned)


def resident_bytes() -> int | None:
    """What this process has resident now; where the system does not tell, the most it ever had."""
    if not STATM.exists():
        return peak_rss_bytes()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(values: list[float], *, resamples: int = 2000, block: int = 50) -> tuple[float, ...]:
    """The least-squares slope for each of the values, and its 95 % interval.

    Residuals are resampled in blocks, since neighbouring chunks share what else the machine does.
    """
    y = np.asarray(values, dtype=np.float64)
    x = np.arange(len(y)) - (len(y) - 1) / 2
    found = float(x @ y / (x @ x))
    residual = y - y.mean() - found * x
    block = min(block, len(y))
    count = -(-len(y) // block)
    starts = np.random.Generator(np.random.Philox(0)).integers(
        0, len(y) - block + 1, (resamples, count)
    )
    slopes = [found + x @ noise / (x @ x) for noise in _resampled(residual, starts, block)]
    low, high = np.quantile(slopes, [0.025, 0.975])
    return found, float(low), float(high)


def _resampled(residual: np.ndarray, starts: np.ndarray, block: int) -> Iterator[np.ndarray]:
    for of_one in starts:
        picked = (of_one[:, None] + np.arange(block)).ravel()[: len(residual)]
        yield residual[picked]
