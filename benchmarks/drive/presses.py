"""What a person at the wheel presses: holds, taps and reversals, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TURNS = ("ArrowLeft", "ArrowRight")  # a full pan: 1 pixel a frame in the demo's world
MOVES = ("KeyA", "KeyD")  # half of that
TURN_SHARE = 0.85
STILL_S = (1.4, 1.9)  # before a press; the picture of the release before comes meanwhile
TAP_S, HOLD_S = (0.08, 0.16), (0.3, 1.0)
TAP_SHARE, REVERSAL_SHARE = 0.2, 0.2
REVERSAL_STILL_S = (0.05, 0.2)


@dataclass(frozen=True, slots=True)
class Press:
    """A key by its `KeyboardEvent.code`: seconds until it is pressed, then until its release."""

    code: str
    still_s: float
    hold_s: float


def draw_presses(count: int, seed: int) -> list[Press]:
    """Return `count` presses; some are followed by the opposite key at once, which is one more."""
    random = np.random.Generator(np.random.Philox(seed))
    presses = list[Press]()
    for _ in range(count):
        keys = TURNS if random.random() < TURN_SHARE else MOVES
        side = int(random.integers(2))
        hold_s = random.uniform(*(TAP_S if random.random() < TAP_SHARE else HOLD_S))
        presses.append(Press(keys[side], random.uniform(*STILL_S), hold_s))
        if random.random() < REVERSAL_SHARE:
            still_s, hold_s = random.uniform(*REVERSAL_STILL_S), random.uniform(*HOLD_S)
            presses.append(Press(keys[1 - side], still_s, hold_s))
    return presses
