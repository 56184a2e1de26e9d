"""Ladders: the noise levels of a latent frame, from pure noise down to clean.

A level is the noise fraction sigma in [0, 1] of the flow, x = (1 - sigma) clean + sigma noise.
"""

from __future__ import annotations

import math

from ...characters import excerpt, list_entries
from ...errors import BadInput
from ...model.preset import Preset

Ladder = tuple[float, ...]
"""Levels from 1 (pure noise; some families say .9999) down to 0 (clean), strictly decreasing.

One more than the number of steps.
"""

TIMESTEPS = 1000
NEARLY_NOISE = 0.99  # the first level may be so low


def shift_level(sigma: float, shift: float) -> float:
    """The flow time shift: s sigma / (1 + (s - 1) sigma)."""
    return shift * sigma / (shift * sigma + (1 - sigma))  # written so that 1 stays exactly 1


def flow_ladder(steps: int, shift: float, begins: float = 1.0) -> Ladder:
    """`steps` equal steps from 1, or where it `begins`, to 0, then shifted."""
    if steps < 1:
        raise BadInput(f"steps must be at least 1; got {steps}.")
    _check_shift(shift)
    return tuple(shift_level(begins * (1 - i / steps), shift) for i in range(steps + 1))


def opening_ladder(steps: int, first_steps: int, shift: float) -> Ladder:
    """The first chunk's ladder if it takes more steps than the others, else empty."""
    return flow_ladder(first_steps, shift) if first_steps > steps else ()


def few_step_ladder(timesteps: tuple[float, ...], shift: float) -> Ladder:
    """The distilled family's list of un-warped timesteps (1000, 750, ...) as levels, shifted, with
    the final 0.
    """
    _check_shift(shift)
    return (*(shift_level(t / TIMESTEPS, shift) for t in timesteps), 0.0)


def table_ladder(timesteps: tuple[float, ...], shift: float) -> Ladder:
    """A list of final timesteps as levels: of 1000 even timesteps, shifted, the nearest ones, and
    the final 0 (Self-Forcing `utils/scheduler.py`; 0 itself is not in the table).
    """
    _check_shift(shift)
    table = [shift_level(k / TIMESTEPS, shift) for k in range(1, TIMESTEPS + 1)]
    return (*(min(table, key=lambda s: abs(TIMESTEPS * s - t)) for t in timesteps), 0.0)


def preset_ladders(preset: Preset) -> tuple[Ladder, Ladder]:
    """The ladders of a family: of every chunk, and of the first chunk (empty if equal)."""
    if preset.timesteps:
        return _preset_list(preset, preset.timesteps), _preset_list(preset, preset.first_timesteps)
    even = flow_ladder(preset.steps, preset.shift, preset.begins / TIMESTEPS)
    return even, opening_ladder(preset.steps, preset.first_steps, preset.shift)


def parse_steps(written: str, shift: float) -> tuple[Ladder, Ladder]:
    """Parse `1000, 750, 500, 250`, or `FIRST | REST` with steps for the first chunk.

    Returns the ladder of every chunk and that of the first one, empty if equal.
    """
    parts = [_timesteps(part, written) for part in written.split("|")]
    if len(parts) > 2:
        raise BadInput(
            f"The list of steps {excerpt(written)} has {len(parts)} parts; give one list, or two "
            "with `|` between them: the first chunk's and the other chunks'."
        )
    ladders = [few_step_ladder(part, shift) for part in parts]
    for ladder in ladders:
        check_ladder(ladder)
    return ladders[-1], ladders[0] if len(ladders) == 2 else ()


def check_ladder(ladder: Ladder) -> None:
    """Refuse a ladder that does not fall strictly from about 1 to 0."""
    falling = all(b < a for a, b in zip(ladder, ladder[1:], strict=False))
    from_noise = len(ladder) > 1 and NEARLY_NOISE <= ladder[0] <= 1
    if not from_noise or ladder[-1] != 0.0 or not falling:
        raise BadInput(f"Noise levels must fall strictly from 1 to 0; got {ladder}.")


def _preset_list(preset: Preset, timesteps: tuple[float, ...]) -> Ladder:
    if not timesteps:
        return ()
    return (few_step_ladder if preset.shift_timesteps else table_ladder)(timesteps, preset.shift)


def _timesteps(part: str, written: str) -> tuple[float, ...]:
    try:
        timesteps = tuple(map(float, list_entries(part)))
    except ValueError as error:
        raise BadInput(
            f"The list of steps {excerpt(written)} is not made of numbers; write timesteps such as "
            "`1000, 750, 500, 250`."
        ) from error
    inside = all(0 < t <= TIMESTEPS for t in timesteps)
    falling = all(b < a for a, b in zip(timesteps, timesteps[1:], strict=False))
    if not timesteps or timesteps[0] != TIMESTEPS or not inside or not falling:
        raise BadInput(
            f"The list of steps {excerpt(written)} must begin with {TIMESTEPS} and fall, staying "
            "above 0; the last step always ends at 0, which is not written."
        )
    return timesteps


def _check_shift(shift: float) -> None:
    if not 0 < shift < math.inf:
        raise BadInput(f"shift must be a positive number; got {shift}.")
