"""One layer's self-attention in the four steps of a chunk, dense and by blocks, by history.

The sizes are those of the embedded model at 128x128: 192 queries, 64 keys per latent frame, 4 heads
of 48. The keys are random: time does not depend on keys while no head falls back to dense
attention.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...attention.layout import AttentionInputs, attend_inputs
from ...attention.sparse.self_attention import SparseHistory
from ...attention.sparse.settings import SparseSelf
from ...attention.sparse.stats import SparseStats
from ...model.preset import DEMO
from .._shared.paired import Prepare, median_interval, paired_seconds, ratio_interval
from .._shared.report import Results

QUERIES, FRAME_TOKENS, HEADS, WIDTH = 192, 64, 4, 48
DENSITIES = (0.15, 0.3, 0.5)


class FixedAttention:
    """An attention over prepared queries, keys and values; ignores its arguments."""

    def __init__(self, history: int) -> None:
        past = history * FRAME_TOKENS
        generator = torch.Generator().manual_seed(0)
        q, keys, values = (
            torch.randn(1, HEADS, count, WIDTH, generator=generator)
            for count in (QUERIES, past + QUERIES, past + QUERIES)
        )
        own = ((slice(0, QUERIES), QUERIES),)
        self.rows = slice(None)
        self.keys = AttentionInputs(q, keys, values, None, past, own, range(history), FRAME_TOKENS)

    def gather(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> AttentionInputs:
        return self.keys

    def __call__(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        return attend_inputs(self.keys).transpose(1, 2)


def layer_case(name: str, history: int) -> Prepare:
    """Prepare `dense`, or block-sparse attention of a density, after `history` latent frames."""
    attention = FixedAttention(history)
    steps = [step / DEMO.steps for step in range(DEMO.steps)]
    x = torch.empty(1, 0, HEADS, WIDTH)  # ignored by FixedAttention

    def prepare() -> Callable[[], object]:
        if name == "dense":
            return lambda: [attention(1, x, x, x) for _ in steps]
        chosen = SparseSelf(float(name), recall_floor=0.0, min_keys=0)
        sparse = SparseHistory(chosen, SparseStats(), sink_frames=0, min_keys=0)
        return lambda: [sparse.over(attention, [done])(1, x, x, x) for done in steps]

    return prepare


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """Histories in latent frames, and the number of timed rounds."""

    histories: tuple[int, ...] = (64, 256, 1024)
    rounds: int = 12
    budget_s: float = 120.0


def measure_layers(plan: LayerPlan) -> Results:
    """Measure one layer by blocks and dense, in the same rounds, in processor time."""
    results = Results("attention_layer")
    for history in plan.histories:
        cases = {"dense": layer_case("dense", history)}
        cases |= {f"AnnSA {d:g}": layer_case(str(d), history) for d in DENSITIES}
        seconds = paired_seconds(
            cases, rounds=plan.rounds, budget_s=plan.budget_s, clock=time.process_time
        )
        keys = history * FRAME_TOKENS
        for name, values in seconds.items():
            label = f"{name}, {keys} keys"
            results.samples[label] = values
            results.figures[label] = median_interval(values)
            if name != "dense":
                ratio = ratio_interval(seconds["dense"], values)
                results.figures[f"dense / {label}"] = ratio
                results.at_least(f"{name} is faster than dense at {keys} keys", ratio.low, 1)
    return results
