"""The rungs of the ladder: how many steps, whose weights, with guidance or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...model.preset import EULER, RENOISE
from ...training.evaluation.kit import Recipe

REFERENCE = "full 8"


@dataclass(frozen=True, slots=True)
class Rung:
    """How a rung samples, and whether the student's weights do."""

    recipe: Recipe
    student: bool = False


def _full(steps: int) -> Rung:
    return Rung(Recipe(steps=steps))


def _unguided(steps: int, first_steps: int = 0, solver: str = EULER, student: bool = True) -> Rung:
    """A rung without guidance, whose first chunk has `first_steps` (0: as the others)."""
    first = first_steps or steps
    recipe = replace(Recipe(steps=steps), scale=1.0, first_steps=first, solver=solver)
    return Rung(recipe, student)


RUNGS: Mapping[str, Rung] = {
    "full 20": _full(20),
    REFERENCE: _full(8),
    "full 4": _full(4),
    "full 2": _full(2),
    "full 1": _full(1),
    "full 2, no guidance": _unguided(2, 8, student=False),
    "student 4": _unguided(4),
    "student 2": _unguided(2),
    "student 2, first 4": _unguided(2, 4),
    "student 2, re-noise": _unguided(2, solver=RENOISE),
    "student 1": _unguided(1),
    "student 1, first 4": _unguided(1, 4),
}
"""By name. "full" is the demo with its guidance, whose first chunk has eight steps or more."""
