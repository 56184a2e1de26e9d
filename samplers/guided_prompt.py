"""The hook that pushes attention to prompts from the negative prompt, for one pass."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from ..attention.dense import attend
from ..model.dit import PromptAttention, TextKV
from ..model.hooks import Hooks
from .guidance import NormalizedAttention


def push_hooks(
    guide: NormalizedAttention,
    negative: TextKV,
    strengths: Tensor,
    to_prompt: PromptAttention | None,
) -> Hooks:
    """NAG away from the one row of `negative`, by `strengths` (b, f), in all layers."""
    factors = strengths.view(*strengths.shape, 1, 1, 1)

    def push(layer: int, q: Tensor, out: Tensor) -> Tensor:
        keys, values = (x[:, 0].expand(len(q), -1, -1, -1) for x in negative.of(layer)[0])
        by = attend if to_prompt is None else partial(to_prompt, layer)
        away = by(q.flatten(1, 2), keys, values).view(q.shape)
        return guide.push(out, away, factors.to(out.dtype))

    return Hooks(in_prompt=(push,))
