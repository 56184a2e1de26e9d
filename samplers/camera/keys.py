"""What a person holds while driving: keys, sticks and a mouse, as a push of the camera.

Speeds as in Reactor's cookbook for LingBot-World (Apache-2.0): a full turn is 45 degrees a second,
a full move 1 unit a second; Shift doubles the speed of keys; 1200 pixels of mouse are a full turn's
second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .moves import CameraMotion, round_speeds

FULL_TURN = 45.0  # degrees a second
KEY_PUSH = 0.5  # of full speed; all of it with Shift
MOUSE_PIXELS = 1200.0  # of a full turn for a second
SHIFT = "shift"

KEYS: Mapping[str, tuple[int, int]] = {
    "d": (0, 1), "a": (0, -1), "e": (1, 1), "q": (1, -1), "w": (2, 1), "s": (2, -1),
    "right": (3, 1), "left": (3, -1), "up": (4, 1), "down": (4, -1),
}  # fmt: skip
"""For each key the number of the push, and its sign; `left` to `down` are the arrows."""

PUSHES = 5


@dataclass(frozen=True, slots=True)
class Push:
    """How hard a camera is pushed, -1 to 1: to the right, up, forward; turned right, tilted up."""

    values: tuple[float, ...] = (0.0,) * PUSHES

    def __add__(self, other: Push) -> Push:
        return Push(tuple(a + b for a, b in zip(self.values, other.values, strict=True)))

    def scaled(self, factor: float) -> Push:
        """The push, `factor` times as hard."""
        return Push(tuple(factor * value for value in self.values))

    @property
    def motion(self) -> CameraMotion:
        """The motion, rounded as its text: moves and turns are at most 1 long each."""
        right, up, forward = _bounded(self.values[:3])
        turn, tilt = _bounded(self.values[3:])
        return round_speeds(CameraMotion(right, -up, forward, FULL_TURN * tilt, FULL_TURN * turn))


NO_PUSH = Push()


def _bounded(values: tuple[float, ...]) -> tuple[float, ...]:
    longest = max(1.0, math.hypot(*values))
    return tuple(value / longest for value in values)


@dataclass(frozen=True, slots=True)
class KeyState:
    """Keys that are down, by name, and `sticks` as a push; sticks know no Shift."""

    keys: frozenset[str] = frozenset()
    sticks: Push = NO_PUSH

    @property
    def push(self) -> Push:
        """What keys and sticks push together."""
        return key_push(self.keys) + self.sticks


NOTHING = KeyState()


def key_push(keys: frozenset[str]) -> Push:
    """The push of keys that are down together."""
    values = [0.0] * PUSHES
    for key in keys & KEYS.keys():
        axis, sign = KEYS[key]
        values[axis] += sign * KEY_PUSH * (2 if SHIFT in keys else 1)
    return Push(tuple(values))


def look_push(right: float, down: float, seconds: float) -> Push:
    """The push that turns by a mouse's way in pixels within `seconds` of video."""
    full = MOUSE_PIXELS * seconds
    return Push((0.0, 0.0, 0.0, right / full, -down / full))
