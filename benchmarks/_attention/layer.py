"""One layer's self-attention in the four steps of a chunk, dense and by blocks, by history.

Sizes of the embedded model at 128x128: 192 queries, 64 keys a latent frame, 4 heads of 48. The keys
are random, since time does not depend on them where no head falls back.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...attention.layout import AttentionInputs, attend_inputs
from ...attention.sparse.self_attention import SparseHistory
from ...attention.sparse.settings import SparseSelf
from ...attention.sparse.stats import SparseStats
from ...model.preset import DEMO
from .._shared.paired import Prepare

QUERIES, FRAME_TOKENS, HEADS, WIDTH = 192, 64, 4, 48
DENSITIES = (0.15, 0.3, 0.5)


class LaidOut:
    """An attention whose keys are there already."""

    def __init__(self, history: int) -> None:
        past = history * FRAME_TOKENS
        made = torch.Generator().manual_seed(0)
        q, keys, values = (
            torch.randn(1, HEADS, count, WIDTH, generator=made)
            for count in (QUERIES, past + QUERIES, past + QUERIES)
        )
        own = ((slice(0, QUERIES), QUERIES),)
        self.rows = slice(None)
        self.keys = AttentionInputs(q, keys, values, None, past, own, range(history), FRAME_TOKENS)

    def gather(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> AttentionInputs:
        """The keys."""
        return self.keys

    def __call__(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        """Dense attention."""
        return attend_inputs(self.keys).transpose(1, 2)


def layer_case(name: str, history: int) -> Prepare:
    """`dense`, or a density, after so many latent frames."""
    attention = LaidOut(history)
    steps = [step / DEMO.steps for step in range(DEMO.steps)]
    x = torch.empty(1, 0, HEADS, WIDTH)  # it is laid out already

    def prepare() -> Callable[[], object]:
        if name == "dense":
            return lambda: [attention(1, x, x, x) for _ in steps]
        chosen = SparseSelf(float(name), recall_floor=0.0, min_keys=0)
        sparse = SparseHistory(chosen, SparseStats(), sink_frames=0, min_keys=0)
        return lambda: [sparse.over(attention, [done])(1, x, x, x) for done in steps]

    return prepare
