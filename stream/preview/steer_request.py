"""Reads and checks the body of a POST that steers the camera."""

from __future__ import annotations

import math
from typing import Any

from ...samplers.camera.keys import KEYS, PUSHES, SHIFT, KeyState, Push
from ..drive.drive import Steer
from ..drive.input_log import MODES
from .requests import MAX_CLIENT_ID, MAX_REV, BadRequest, read_fields, read_text

FIELDS = {"driver", "number", "keys", "sticks", "look", "mode", "shown", "take_over", "leave"}
MAX_LOOK = 100_000.0  # pixels in one message


def read_steer(body: bytes) -> Steer:
    """Read what a page's person holds; only `driver` and `number` must be there."""
    fields = read_fields(body, FIELDS)
    mode = fields.get("mode", "hold")
    if mode not in MODES:
        raise BadRequest(f"mode must be {' or '.join(MODES)}.")
    shown = fields.get("shown")
    sticks = Push(_numbers(fields, "sticks", PUSHES, 1.0))
    right, down = _numbers(fields, "look", 2, MAX_LOOK)
    return Steer(
        read_text(fields, "driver", MAX_CLIENT_ID),
        _whole(fields.get("number"), "number", 1),
        KeyState(_keys(fields), sticks),
        (right, down),
        mode,
        None if shown is None else _whole(shown, "shown", 0),
        take_over=_flag(fields, "take_over"),
        leave=_flag(fields, "leave"),
    )


def _keys(fields: dict[str, Any]) -> frozenset[str]:
    keys, known = fields.get("keys", []), {*KEYS, SHIFT}
    if isinstance(keys, list) and all(isinstance(key, str) and key in known for key in keys):
        return frozenset(keys)
    raise BadRequest(f"keys must be a list of {', '.join(sorted(known))}.")


def _numbers(fields: dict[str, Any], name: str, count: int, largest: float) -> tuple[float, ...]:
    values = fields.get(name, [0.0] * count)
    if isinstance(values, list) and len(values) == count and all(map(_is_number, values)):
        numbers = tuple(float(value) for value in values)
        if all(math.isfinite(number) and abs(number) <= largest for number in numbers):
            return numbers
    raise BadRequest(f"{name} must be {count} numbers from {-largest:g} to {largest:g}.")


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= MAX_REV)


def _whole(value: object, name: str, least: int) -> int:
    if type(value) is int and least <= value <= MAX_REV:
        return value
    raise BadRequest(f"{name} must be a whole number from {least} to {MAX_REV}.")


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if isinstance(value, bool):
        return value
    raise BadRequest(f"{name} must be true or false.")
