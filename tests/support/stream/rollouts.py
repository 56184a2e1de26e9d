"""Rollouts of a tiny model with a journal, in many kinds, and what cuts or alters them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import MemoryBank, MostAttended, WindowSink
from longtake.attention.recall.window import RecallWindow
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.errors import BadInput
from longtake.samplers.conditioning.prompts import TimedPrompt
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.feature_caching import FeatureCaching
from longtake.samplers.guidance import (
    NOISE,
    SINK,
    Guidance,
    WeightedScore,
    cfg,
    last,
    temporal,
    vanilla,
)
from longtake.samplers.loop import Chunk
from longtake.samplers.rules.anchor import Anchor
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.positions import TopAligned
from longtake.samplers.rules.reading import (
    FarReading,
    NewestFrames,
    PastWeight,
    RecencyBias,
)
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import pyramid, rolling
from longtake.samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from longtake.samplers.solvers.single_step import ReNoise
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.fork import Fork
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec, Warn
from longtake.tests.support.tiny_model import TINY, embedding, random_dit, settings


class Words:
    """A text encoder of the tests: a prompt is a number, its embedding follows from it."""

    def encode(self, text: str, warn: Warn) -> Tensor:
        if not text.isdigit():
            raise BadInput(f"{text!r} is no prompt of these tests.")
        return embedding(int(text))

    def line(
        self, start_s: float, text: str, guidance: float | None, lora: float | None, over_s: float
    ) -> str:
        over = f" over {over_s:g}" if over_s else ""
        return f"{start_s:g} {guidance if lora is None else lora}{over}: {text}"


MODEL = local_denoiser(random_dit(), TINY)
FEW = SparseSelf(0.3, 0.0, (), 0.5, min_keys=0, recent_frames=1)
BUCKETS = replace(FEW, order="k-means")
RULES = MemoryRules(NewestFrames(3), RecencyBias(), PastWeight(0.3), FarReading(2, 1, 0.5))
LONG_HISTORIES: dict[str, dict[str, Any]] = {
    "TempCache, what differs": {
        "cache": TempCache(5, eviction=REDUNDANT, sink_frames=1),
        "guidance": vanilla(2.0, SINK),
    },
    "TempCache, merged, sparse": {
        "cache": TempCache(5, 0.9, index="k-means"),
        "sparsity": Sparsity(BUCKETS, SparseCross(prune=True, from_tokens=0)),
    },
    "sparse by buckets, int8": {
        "cache": WindowSink(7, 1),
        "storage": Packed(INT8, 3),
        "sparsity": Sparsity(BUCKETS),
    },
    "memory rules, anchored": {
        "cache": WindowSink(7, 1),
        "memory": replace(RULES, positions=TopAligned(12)),
        "anchor": Anchor(0.5),
    },
    "cached features, memory rules": {
        "cache": WindowSink(7, 1),
        "memory": RULES,
        "feature_caching": FeatureCaching(0.8),
    },
    "memory rules, sparse, TempCache": {
        "cache": TempCache(5, 0.9, index="k-means"),
        "memory": RULES,
        "anchor": Anchor(1.0),
        "sparsity": Sparsity(BUCKETS),
    },
    "each layer its own memories": {
        "cache": TetherCache(5, 1),
        "memory": RULES,
        "sparsity": Sparsity(FEW),
    },
    "heads read their parts, int8": {
        "cache": DummyHeads(5, 1),
        "storage": Packed(INT8, 1),
        "memory": RULES,
        "sparsity": Sparsity(FEW),
    },
    "recalled by view, sparse, int8": {
        "cache": RecallWindow(5, 1, 2, flat_world=True),
        "storage": Packed(INT8, 1),
        "sparsity": Sparsity(BUCKETS),
    },
    "recalled by content, memory rules": {
        "cache": RecallWindow(5, 0, 3, 2, "content", archive_frames=6),
        "memory": RULES,
        "guidance": vanilla(2.0, NOISE),
    },
    "sparse, each head its own": {
        "cache": MostAttended(5, 1, per_head=True),
        "sparsity": Sparsity(FEW),
    },
}


def assert_same_bits(ours: list[Chunk], expected: list[Chunk]) -> None:
    assert [chunk.index for chunk in ours] == [chunk.index for chunk in expected]
    for a, b in zip(ours, expected, strict=True):
        assert torch.equal(a.latents, b.latents), a.index


def edit_fork(frame: int) -> Fork:
    """Another prompt, seed and guidance from a latent frame on."""
    return Fork(frame, TimedPrompt(0, embedding(77), "77"), seed=11, guidance=cfg(3.0))


LADDER = flow_ladder(3, 3.0)
WINDOW = WindowSink(5, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Recalling:
    """A score that looks at all the finished latent frames that it is given."""

    def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
        ages = torch.arange(1.0, len(before) + 1).view(-1, 1, 1, 1)
        return -(latents - (ages * before).sum(0)).square().sum() / 100


KINDS: dict[str, dict[str, Any]] = {
    "causal, multistep": {"solver": UniPC2(), "cache": WINDOW, "guidance": cfg(2.0)},
    "causal, noisy history": {
        "solver": ReNoise(),
        "guidance": vanilla(2.0, NOISE),
        "context_noise": ContextNoise(0.1),
    },
    "causal, exact parts": {
        "guidance": temporal(0.5, last(3, exact=True), scale=2.0, none=NOISE),
        "context_noise": ContextNoise(0.2, 3, fresh=True),
    },
    "pyramid, multistep": {"schedule": pyramid(LADDER), "solver": UniPC2(), "cache": WINDOW},
    "rolling, multistep": {"schedule": rolling(LADDER, 2), "solver": DPMSolverPP2M()},
    "causal, re-cached at a switch": {"cache": WINDOW, "on_prompt_change": "re-cache"},
    **LONG_HISTORIES,
    "causal, flushed at a switch": {"cache": WINDOW, "on_prompt_change": "flush"},
    "causal, a score": {
        "cache": WINDOW,
        "guidance": Guidance(weighted_scores=(WeightedScore(Recalling()),)),
    },
    "rolling, a score": {
        "schedule": rolling(LADDER, 2),
        "guidance": Guidance(weighted_scores=(WeightedScore(Recalling()),)),
    },
    "causal, a bank re-cached": {"cache": MemoryBank(5, 1, 1, 1), "on_prompt_change": "re-cache"},
}


def rollout(folder: Path, model: Denoiser = MODEL, **changes: Any) -> Rollout:
    own = {name: changes.pop(name) for name in ("snapshot_chunks", "resume") if name in changes}
    made = settings(**{"length": 12, **changes})
    return Rollout(RolloutSpec(made, model, "model", Journal(folder), prompter=Words(), **own))


def cut_after(made: Rollout, count: int) -> list[Chunk]:
    """Read the first chunks and go away, as a killed process does."""
    chunks = iter(made.chunks)
    return [next(chunks) for _ in range(count)]


class Raises:
    """A check before each evaluation that raises at the given ones."""

    def __init__(self, error: Callable[[], BaseException], *at: int) -> None:
        self.error, self.at, self.count = error, at, 0

    def __call__(self) -> None:
        self.count += 1
        if self.count in self.at:
            raise self.error()
