"""The advanced widgets of History Guidance: when guidance acts, and what limits it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...characters import excerpt, list_entries
from ...errors import BadInput
from ..from_model import set_or_none
from .guidance_spec import GuidanceOptionsSpec, check_interval

UNCHANGED = -1.0
NUMBERS = ("from_level", "to_level", "first_chunk", "rescale", "norm_cap")


def read_options(widgets: Mapping[str, Any]) -> GuidanceOptionsSpec:
    """Read the widgets by name; a missing widget changes nothing."""
    numbers = {name: float(widgets.get(name, UNCHANGED)) for name in NUMBERS}
    return GuidanceOptionsSpec(
        per_step=parse_factors(widgets.get("per_step", "")),
        one_at_a_time=bool(widgets.get("one_at_a_time", False)),
        **{
            name: set_or_none(name, value, 0.0, "to change nothing")
            for name, value in numbers.items()
        },
    )


def check_levels(from_level: float, to_level: float) -> None:
    """Refuse (BadInput) two levels in the wrong order; where one is unset, the chain decides."""
    if UNCHANGED not in (from_level, to_level):
        check_interval(from_level, to_level)


def parse_factors(per_step: str) -> tuple[float, ...]:
    """Read numbers from a line such as `1, 1, 0.5`; an empty line gives none."""
    try:
        factors = tuple(map(float, list_entries(per_step)))
    except ValueError:
        factors = (math.nan,)
    if not all(map(math.isfinite, factors)):
        raise BadInput(
            f"per_step is {excerpt(per_step)}; write numbers such as `1, 1, 0.5`, one for each "
            "step."
        )
    return factors


def option_inputs() -> list[io.Input]:
    """Build the widgets, all of them advanced."""
    return [
        _number(
            "from_level",
            1.0,
            "The lowest noise level at which guidance acts, 0 to 1. Below it the model runs once, "
            "with the whole history. 0.7 suits few-step models.",
        ),
        _number("to_level", 1.0, "The highest noise level at which guidance acts, 0 to 1."),
        io.String.Input(
            "per_step",
            default="",
            advanced=True,
            tooltip="A strength factor for each step of a chunk, such as `1, 1, 0.5`; the last one "
            "holds for the remaining steps. Empty: unchanged (1 for every step at first).",
        ),
        _number(
            "first_chunk",
            10.0,
            "Strength factor while there is no history yet (no unit, 0 to 10).",
        ),
        _number(
            "rescale",
            1.0,
            "Restores the spread of the unguided prediction, against oversaturation (no unit, 0 is "
            "off, 1 is full). Not linear.",
        ),
        _number(
            "norm_cap",
            100.0,
            "Limits each token's prediction to this multiple of the unguided one (no unit, 0 to "
            "100). 0 is off; 1.5 to 3 is useful. Not linear.",
        ),
        io.Boolean.Input(
            "one_at_a_time",
            default=False,
            advanced=True,
            tooltip="On: evaluates one branch after another. It needs less memory and gives the "
            "same result up to rounding. Off: unchanged.",
        ),
    ]


def _number(name: str, largest: float, meaning: str) -> io.Input:
    """Build a widget for a number from 0; -1 keeps what the chain has."""
    return io.Float.Input(
        name,
        default=UNCHANGED,
        min=UNCHANGED,
        max=largest,
        step=0.05 if largest == 1 else 0.1,
        advanced=True,
        tooltip=f"{meaning} -1: unchanged.",
    )
