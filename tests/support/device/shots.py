"""Shots of tiny models, one for each way in which a rollout may use its device.

`python -m longtake.tests.support.device.shots NAME ...` runs them on a CPU and on a stand-in for
CUDA, and writes how they differ and what faults the stand-in saw, as JSON. With the argument
`without float64` the stand-in refuses it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from longtake.attention.cache.policy import (
    AveragingSink,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.attention.coarse.window import CoarseWindow
from longtake.attention.delta.window import DeltaWindow
from longtake.attention.recall.window import RecallWindow
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.storage.codec import AS_COMPUTED
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import InMainMemory
from longtake.attention.storage.quantize import FLOAT8, INT4, INT8
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.machine import wide_numbers
from longtake.model.config import DiTConfig
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.control.video import ControlVideo
from longtake.samplers.denoiser import Denoiser, LocalHost, LowNoise, SecondWeights
from longtake.samplers.feature_caching import FeatureCaching
from longtake.samplers.guidance.presets import cfg, fractional, temporal, vanilla
from longtake.samplers.guidance.score import WeightedScore
from longtake.samplers.guidance.scores import Motion
from longtake.samplers.loop import Chunk, Loop
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import FarReading, NewestFrames, RecencyBias
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks, full_sequence, pyramid, rolling
from longtake.samplers.solvers.multistep import UniPC2
from longtake.samplers.solvers.single_step import ReNoise
from longtake.tests.support.device.comparison import compare
from longtake.tests.support.device.cuda import begin
from longtake.tests.support.device.queues import DEVICE
from longtake.tests.support.samplers.control import controlled_model, random_control
from longtake.tests.support.stream.driven import BASE, CAMERAS, path
from longtake.tests.support.tiny_model import (
    TINY,
    randn,
    random_dit,
    settings,
    timeline,
    with_camera,
)

CPU = torch.device("cpu")
LADDER = flow_ladder(3, 3.0)
WINDOW = {"cache": WindowSink(6, 1)}
SPARSE = SparseSelf(0.3, 0.3, (), 0.0, min_keys=0)
KNOWN = KnownFrames(
    tuple(
        KnownFrame(at, randn(4, 4, 6, seed=at), level=level, lookahead=6)
        for at, level in ((0, 0.0), (7, 0.3), (13, 0.0))
    )
)
ANYFLOW = replace(TINY, flow_map=True, coarse_past=True)
AWAY = Packed(AS_COMPUTED, 3, InMainMemory())
POLICIES: dict[str, dict[str, Any]] = {
    "window": {"cache": WindowSink(6)},
    "sink, cfg": {"cache": WindowSink(6, 1), "guidance": cfg(2.5)},
    "not held": {"cache": WindowSink(6, 1), "hold_rotated": False},
    "full": {"cache": FullHistory()},
    "averaging": {"cache": AveragingSink(6, 3)},
    "rebuilt": {"cache": RebuiltWindow(6, 3)},
    "distant": {"cache": DistantSink(6, 3)},
    "shared": {"cache": SharedWindow(9, 3)},
    "wave": {"cache": WaveWindow(9, 3)},
    "anchor": {"cache": AnchorWindow(6, 3)},
    "attended": {"cache": MostAttended(6, 1)},
    "per head": {"cache": MostAttended(6, 1, per_head=True)},
    "memories": {"cache": TetherCache(6, 1)},
    "heads apart": {"cache": DummyHeads(6, 1)},
    "bank": {"cache": MemoryBank(6, 3, 2, 1)},
    "merged": {"cache": TempCache(6, sink_frames=1, eviction=REDUNDANT)},
    "merged, lsh": {"cache": TempCache(6, sink_frames=1, index="lsh")},
    "merged, fp8": {"cache": TempCache(6, index="int8"), "storage": Packed(FLOAT8)},
    "merged, k-means": {"cache": TempCache(6, index="k-means")},
    "recalled": {"cache": RecallWindow(6, 1, 3), "camera": path(BASE)},
    "by content": {"cache": RecallWindow(6, 1, 3, by="content")},
    "by content, int8": {"cache": RecallWindow(6, 1, 3, by="content"), "storage": Packed(INT8, 2)},
}
STORES: dict[str, dict[str, Any]] = {
    "int8": {**WINDOW, "storage": Packed(INT8, 3)},
    "int4": {"cache": FullHistory(), "storage": Packed(INT4, 3)},
    "fp8": {**WINDOW, "storage": Packed(FLOAT8, 2)},
    "main memory": {**WINDOW, "placement": InMainMemory()},
    "int8 in main memory": {**WINDOW, "storage": Packed(INT8, 2, InMainMemory())},
    "full in main memory": {"cache": FullHistory(), "storage": AWAY},
    "averaging in main memory": {"cache": AveragingSink(6, 3), "placement": InMainMemory()},
    "by content in main memory": {"cache": RecallWindow(6, 1, 3, by="content"), "storage": AWAY},
    "far": {"cache": FullHistory(), "storage": AWAY,
            "memory": MemoryRules(far=FarReading(3, 1, 0.5, share=0.5))},
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "rolling": {**WINDOW, "schedule": rolling(LADDER, 2)},
    "pyramid": {**WINDOW, "schedule": pyramid(LADDER, 2)},
    "all at once": {"schedule": full_sequence(LADDER), "length": 6},
    "unipc": {**WINDOW, "solver": UniPC2(), "schedule": causal_chunks(flow_ladder(4, 3.0), 3)},
    "renoise": {**WINDOW, "solver": ReNoise(), "schedule": causal_chunks(LADDER, 3)},
    "history guidance": {**WINDOW, "guidance": vanilla(1.5)},
    "temporal": {**WINDOW, "guidance": temporal(0.5, scale=2.0)},
    "fractional": {**WINDOW, "guidance": fractional(1.5, 0.4)},
    "score": {**WINDOW,
              "guidance": replace(cfg(1.0), weighted_scores=(WeightedScore(Motion(0.5)),))},
    "rules": {**WINDOW, "memory": MemoryRules(NewestFrames(3), RecencyBias())},
    "re-cache": {**WINDOW, "on_prompt_change": "re-cache"},
    "flush": {**WINDOW, "on_prompt_change": "flush", "prompts": timeline(0, 3, 9)},
    "known": {**WINDOW, "known_frames": KNOWN},
    "sparse": {**WINDOW, "sparsity": Sparsity(SPARSE)},
    "sparse, lsh": {**WINDOW, "sparsity": Sparsity(replace(SPARSE, order="lsh"))},
    "sparse prompt": {**WINDOW, "sparsity": Sparsity(None, SparseCross(prune=True, from_tokens=0))},
    "caching": {**WINDOW, "feature_caching": FeatureCaching(0.2),
                "schedule": causal_chunks(flow_ladder(6, 3.0), 3)},
    "state": {"cache": DeltaWindow(6, 1), "config": replace(TINY, state="delta")},
    "state in main memory": {"cache": DeltaWindow(6, 1), "config": replace(TINY, state="delta"),
                             "guidance": cfg(2.5), "placement": InMainMemory()},
    "coarse": {"cache": CoarseWindow(9, 1, 3), "config": ANYFLOW, "guidance": cfg(2.5)},
    "control": {**WINDOW, "control": ControlVideo(random_control(15))},
    "two experts": {**WINDOW, "second": True},
    **{
        f"camera: {camera}": {**WINDOW, "camera": path(BASE), "config": with_camera(camera)}
        for camera in CAMERAS
    },
}  # fmt: skip
CASES = {**POLICIES, **STORES, **OTHERS}
WITHOUT_FLOAT64 = "without float64"


def engine(device: torch.device, config: DiTConfig, *, controlled: bool, second: bool) -> Denoiser:
    """A random model on a device, perhaps with a control module or second weights."""
    if controlled:
        made = controlled_model(config)
        tree, config = made.host.claim(0), made.config
        control = made.control.to(device)  # type: ignore[union-attr]
    else:
        tree, control = random_dit(config), None
    model = Denoiser(LocalHost(tree.to(device)), config, device, torch.float32, control=control)
    if not second:
        return model
    low = Denoiser(LocalHost(random_dit(config, 7).to(device)), config, device, torch.float32)
    return replace(model, second=SecondWeights(low, LowNoise(0.7)))


def latents(name: str, device: torch.device) -> Tensor:
    """A case's shot, and its last chunk again from a snapshot of all before it."""
    changes = dict(CASES[name])
    config, second = changes.pop("config", TINY), changes.pop("second", False)
    made = settings(**{"length": 15, **changes})
    model = engine(device, config, controlled="control" in changes, second=second)
    loop, chunks = Loop(made, model), list[Chunk]()
    for chunk in loop.chunks():
        chunks.append(chunk)
        if len(chunks) == 2 and device != CPU:
            move_away_and_back(loop, device)
    if loop.settled and loop.index:
        other = Loop(made, model)
        other.restore(loop.snapshot())
        chunks += other.chunks((), chunks[-2].in_flight)
    return torch.cat([chunk.latents for chunk in chunks])


def move_away_and_back(loop: Loop, device: torch.device) -> None:
    """What a host does that needs the memory between two chunks."""
    for cache in loop.branches.caches:
        cache.move(CPU)
        cache.move(device)


def main(arguments: Sequence[str]) -> None:
    begin()
    torch.set_num_threads(1)
    if WITHOUT_FLOAT64 in arguments:
        DEVICE.has_float64, wide_numbers.KINDS = False, wide_numbers.KINDS - {"cuda"}
    names = [name for name in arguments if name in CASES] or [*CASES]
    sys.stdout.write(json.dumps({name: compare(partial(latents, name)) for name in names}))


if __name__ == "__main__":
    main(sys.argv[1:])
