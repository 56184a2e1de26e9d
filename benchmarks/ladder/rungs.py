"""The rungs of the ladder: how many steps, whose weights, with guidance or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...model.preset import DEMO_FAST, RENOISE
from ...training.evaluation.kit import GUIDED_SCALE, Recipe
from .decoders import Decoding, in_8_bits, in_bfloat16, in_float32
from .weights import DECODER, STUDENT

REFERENCE = "guided 8"
FIRST_STEPS = 8  # of the first chunk, unless a rung says otherwise


@dataclass(frozen=True, slots=True)
class Rung:
    """How a rung samples, which of `OwnWeights` it takes, the dtype in which its linear layers
    and its attention multiply, and how it decodes.
    """

    recipe: Recipe
    takes: tuple[str, ...] = ()
    products: torch.dtype = torch.float32
    decoding: Decoding = in_float32


def _guided(steps: int) -> Rung:
    return Rung(Recipe(steps=steps, first_steps=FIRST_STEPS, scale=GUIDED_SCALE))


def _plain(steps: int, first_steps: int = FIRST_STEPS) -> Rung:
    return Rung(Recipe(steps=steps, first_steps=first_steps, scale=1.0))


def _student(steps: int, first_steps: int = 0, **options: Any) -> Rung:
    """A rung of the student, whose first chunk has `first_steps` (0: as the others)."""
    first = first_steps or steps
    return Rung(Recipe(steps=steps, first_steps=first, scale=1.0, **options), (STUDENT,))


_SHIPPED = _student(DEMO_FAST.steps, DEMO_FAST.first_steps, shift=DEMO_FAST.shift)

RUNGS: Mapping[str, Rung] = {
    "guided 20": _guided(20),
    REFERENCE: _guided(8),
    "guided 4": _guided(4),
    "guided 2": _guided(2),
    "plain 20": _plain(20),
    "plain 8": _plain(8),
    "plain 4": _plain(4),
    "plain 3": _plain(3),
    "plain 3, other decoder": replace(_plain(3), takes=(DECODER,)),
    "plain 2": _plain(2),
    "plain 2, first 4": _plain(2, 4),
    "plain 1": _plain(1),
    "student 4": _student(4),
    "student 2": _student(2),
    "student 2, first 4": _student(2, 4),
    "student 2, first 6": _SHIPPED,
    "student 2, first 6, other decoder": replace(_SHIPPED, takes=(STUDENT, DECODER)),
    "student 2, first 6, bfloat16 decoder": replace(_SHIPPED, decoding=in_bfloat16),
    "student 2, first 6, 8-bit decoder": replace(_SHIPPED, decoding=in_8_bits),
    "student 2, first 6, low precision": replace(
        _SHIPPED, products=torch.bfloat16, decoding=in_8_bits
    ),
    "student 2, re-noise": _student(2, solver=RENOISE),
    "student 1": _student(1),
    "student 1, first 4": _student(1, 4),
}
"""By name. "guided" is the demo with text guidance, "plain" without, which halves the passes."""
