"""Modulation and gates: one operation in float32, the bits of casts before and after."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from longtake.model.arithmetic.modulation import (
    gate,
    gate_by_casts,
    modulate,
    modulate_by_casts,
)
from longtake.tests.support.tiny_model import randn

Change = Callable[[Tensor, Tensor, Tensor], Tensor]
PAIRS = [(modulate, modulate_by_casts), (gate, gate_by_casts)]


def inputs(change: Change, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (b, f, s, c), then shift and scale, or other tokens and their share."""
    x, y = (randn(2, 3, 5, 16, seed=seed).to(dtype) for seed in (0, 1))
    shift, scale = (randn(2, 3, 1, 16, seed=seed) for seed in (2, 3))
    return (x, shift, scale) if change is modulate else (x, y, scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("change", "by_casts"), PAIRS)
def test_values_are_those_of_casts(change: Change, by_casts: Change, dtype: torch.dtype) -> None:
    given = inputs(change, dtype)
    expected = by_casts(*given)
    for mode in (torch.inference_mode(), torch.no_grad(), torch.enable_grad()):
        with mode:
            made = change(*given)
        assert made.dtype == dtype and torch.equal(made, expected)


@pytest.mark.parametrize(("change", "by_casts"), PAIRS)
def test_gradients_are_those_of_casts(change: Change, by_casts: Change) -> None:
    found = []
    for run in (change, by_casts):
        given = [x.requires_grad_() for x in inputs(change, torch.float32)]
        run(*given).square().sum().backward()
        found.append([x.grad for x in given])
    for ours, expected in zip(*found, strict=True):
        assert ours is not None and torch.equal(ours, expected)
