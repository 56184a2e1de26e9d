"""The camera moves that users name, with their usual speeds."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from ...characters import COMMAS, excerpt
from ...errors import BadInput

MAX_TURN = 360.0  # degrees a second
MAX_SPEED = 100.0  # units a second, or orbits' degrees
ORBIT_DISTANCE = 2.0  # units from the camera to the point that it goes around


@dataclass(frozen=True, slots=True)
class CameraMotion:
    """How a camera moves, per second, in its own axes.

    `right`, `down` and `forward` are in units: 1 unit a second is full speed. `tilt` (up), `turn`
    (right) and `roll` (clockwise) are in degrees. `zoom` is the growth of the focal length in per
    cent.
    """

    right: float = 0.0
    down: float = 0.0
    forward: float = 0.0
    tilt: float = 0.0
    turn: float = 0.0
    roll: float = 0.0
    zoom: float = 0.0

    def __add__(self, other: CameraMotion) -> CameraMotion:
        return CameraMotion(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def scaled(self, factor: float) -> CameraMotion:
        """The same motion at `factor` times the speed."""
        return CameraMotion(*(factor * value for value in astuple(self)))

    def toward(self, other: CameraMotion, share: float) -> CameraMotion:
        """Mix this motion with another, whose share is from 0 to 1."""
        return self.scaled(1 - share) + other.scaled(share)

    def twist(self, seconds: float) -> Tensor:
        """The motion of `seconds`: units, then radians (6,), float64."""
        *values, _ = astuple(self)
        moves = [seconds * value for value in values[:3]]
        turns = [seconds * math.radians(value) for value in values[3:]]
        return torch.tensor([*moves, *turns], dtype=torch.float64)

    def growth(self, seconds: float) -> float:
        """The natural logarithm of the focal length's growth in `seconds`."""
        return seconds * math.copysign(math.log1p(abs(self.zoom) / 100), self.zoom)


STILL = CameraMotion()


def _around(degrees: float) -> CameraMotion:
    """An orbit to the right by 1 degree a second: sideways, while the camera turns back."""
    return CameraMotion(right=ORBIT_DISTANCE * math.radians(degrees), turn=-degrees)


@dataclass(frozen=True, slots=True)
class Move:
    """One named move: its motion at speed 1, its usual speed, and the unit of the speed."""

    at_one: CameraMotion
    usual: float
    unit: str


_DEGREES, _UNITS, _PERCENT = "degrees a second", "units a second", "per cent a second"

MOVES: Mapping[str, Move] = {
    "pan left": Move(CameraMotion(turn=-1), 15, _DEGREES),
    "pan right": Move(CameraMotion(turn=1), 15, _DEGREES),
    "tilt up": Move(CameraMotion(tilt=1), 15, _DEGREES),
    "tilt down": Move(CameraMotion(tilt=-1), 15, _DEGREES),
    "roll left": Move(CameraMotion(roll=-1), 15, _DEGREES),
    "roll right": Move(CameraMotion(roll=1), 15, _DEGREES),
    "forward": Move(CameraMotion(forward=1), 1, _UNITS),
    "back": Move(CameraMotion(forward=-1), 1, _UNITS),
    "left": Move(CameraMotion(right=-1), 1, _UNITS),
    "right": Move(CameraMotion(right=1), 1, _UNITS),
    "up": Move(CameraMotion(down=-1), 1, _UNITS),
    "down": Move(CameraMotion(down=1), 1, _UNITS),
    "orbit left": Move(_around(-1), 15, _DEGREES),
    "orbit right": Move(_around(1), 15, _DEGREES),
    "zoom in": Move(CameraMotion(zoom=1), 20, _PERCENT),
    "zoom out": Move(CameraMotion(zoom=-1), 20, _PERCENT),
    "still": Move(STILL, 0, _UNITS),
}
"""The moves by name; the help page of the camera node lists the same table."""

OTHER_NAMES: Mapping[str, str] = {
    "turn left": "pan left", "turn right": "pan right",
    "look left": "pan left", "look right": "pan right",
    "look up": "tilt up", "look down": "tilt down",
    "dolly in": "forward", "dolly out": "back", "push in": "forward", "pull out": "back",
    "forwards": "forward", "backward": "back", "backwards": "back",
    "truck left": "left", "truck right": "right",
    "strafe left": "left", "strafe right": "right", "move left": "left", "move right": "right",
    "pedestal up": "up", "pedestal down": "down", "rise": "up", "sink": "down",
    "static": "still", "stop": "still", "hold": "still",
}  # fmt: skip

AXES: Mapping[str, tuple[str, str]] = {
    "forward": ("forward", "back"), "right": ("right", "left"), "down": ("down", "up"),
    "tilt": ("tilt up", "tilt down"), "turn": ("pan right", "pan left"),
    "roll": ("roll right", "roll left"), "zoom": ("zoom in", "zoom out"),
}  # fmt: skip
"""For each field of a motion the moves that make it positive and negative."""

SPEED_DIGITS = 2  # decimals of a speed in a text

_BETWEEN = re.compile(rf"[{COMMAS}+]|\band\b")
_MOVE = re.compile(r"(?P<name>[a-z][a-z ]*?)\s*(?P<speed>\d+(?:\.\d*)?|\.\d+)?")


def read_motion(text: str, line: int) -> CameraMotion:
    """Add the moves of a line such as `forward, turn right 20`; a number is a speed."""
    total = STILL
    for part in _BETWEEN.split(text.lower()):
        total += _read_move(" ".join(part.split()), line)
    return total


def _read_move(text: str, line: int) -> CameraMotion:
    match = _MOVE.fullmatch(text)
    name = match["name"] if match else text
    move = MOVES.get(OTHER_NAMES.get(name, name))
    if match is None or move is None:
        near = difflib.get_close_matches(name, [*MOVES, *OTHER_NAMES], 1) or ["pan left"]
        raise BadInput(
            f"Line {line} has the move {excerpt(text)}, which the camera does not know; write a "
            f"move and perhaps a speed, such as `{near[0]}` or `forward, turn right 20`."
        )
    speed = float(match["speed"]) if match["speed"] else move.usual
    largest = MAX_TURN if move.unit == _DEGREES else MAX_SPEED
    if speed > largest:
        raise BadInput(
            f"Line {line} has {excerpt(text)}; the speed of `{name}` is at most {largest:g} "
            f"{move.unit}."
        )
    return move.at_one.scaled(speed)


def write_motion(motion: CameraMotion) -> str:
    """Write a motion as `read_motion` reads it, with speeds to 2 decimals; `still` for none."""
    parts = []
    for axis, moves in AXES.items():
        speed = round(getattr(motion, axis), SPEED_DIGITS)
        if speed:
            number = f"{abs(speed):.{SPEED_DIGITS}f}".rstrip("0").rstrip(".")
            parts.append(f"{moves[speed < 0]} {number}")
    return ", ".join(parts) or "still"


def round_speeds(motion: CameraMotion) -> CameraMotion:
    """The motion that the text of a motion gives, bit for bit."""
    return read_motion(write_motion(motion), 1)
