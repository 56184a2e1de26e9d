"""Long rollouts of the demo model, each in its own process, measured chunk by chunk."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch

from ...attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    MostAttended,
    WindowSink,
)
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT4, INT8
from ...model.preset import DEMO
from ...samplers.denoiser import local_denoiser
from ...samplers.history.plan import planned_bytes
from ...samplers.loop import generate
from ...samplers.schedule.levels import flow_ladder
from ...samplers.schedule.rows import causal_chunks
from ...samplers.settings import RolloutSettings
from .._shared.demo import COLUMNS, ROWS, demo_dit, random_prompt
from .._shared.process_memory import resident_bytes

NEWEST = DEMO.chunk_frames  # latent frames that are not coded
CASES: dict[str, tuple[CachePolicy, Storage]] = {
    "window + sink": (WindowSink(DEMO.window_frames, 3), DENSE),
    "window + sink, int8": (WindowSink(DEMO.window_frames, 3), Packed(INT8, NEWEST)),
    "window + sink, int4": (WindowSink(DEMO.window_frames, 3), Packed(INT4, NEWEST)),
    "EMA sink": (AveragingSink(DEMO.window_frames, 3), DENSE),
    "most attended": (MostAttended(DEMO.window_frames, 3), DENSE),
}


@dataclass(frozen=True, slots=True)
class RolloutTrace:
    """Processor seconds, resident bytes and KV cache bytes of each chunk, and the planned bytes.

    Other programs do not change processor seconds.
    """

    seconds: list[float]
    resident: list[int]
    kv_bytes: list[int]
    planned_bytes: int


def trace_case(name: str, latent_frames: int) -> RolloutTrace:
    """Trace a case in a fresh process, without memory freed by earlier cases."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(trace_rollout, name, latent_frames).result()


def trace_rollout(name: str, latent_frames: int) -> RolloutTrace:
    """Make the rollout, keep none of its chunks, and record its cost."""
    torch.set_num_threads(1)
    tree, sizes = demo_dit()
    policy, storage = CASES[name]
    settings = RolloutSettings(
        random_prompt(sizes.text_dim), ROWS, COLUMNS,
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
    planned = planned_bytes(settings, sizes, torch.float32)
    return RolloutTrace(seconds, resident, kv_bytes, planned)
