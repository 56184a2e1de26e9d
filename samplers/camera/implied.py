"""The camera's motion that a prompt names, such as "the camera pans left"."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from .moves import MOVES, OTHER_NAMES, STILL, CameraMotion
from .path import STILL_PATH, CameraPath, PathEntry
from .rigid import from_twist

TURN_SHARES = (5 / 16, 13 / 16)
"""The shares of a new prompt's motion that a camera has in the first two latent frames.

So the embedded model's world was drawn: its camera turns within 8 frames, half a second.
"""
_AT_FULL_SPEED = replace(STILL_PATH, full_step=STILL_PATH.frame_s)  # 1 unit a second
_VERBS = {
    "pan": "pan", "pans": "pan", "panning": "pan",
    "turn": "pan", "turns": "pan", "turning": "pan",
    "tilt": "tilt", "tilts": "tilt", "tilting": "tilt",
    "roll": "roll", "rolls": "roll", "rolling": "roll",
    "orbit": "orbit", "orbits": "orbit", "orbiting": "orbit",
    "zoom": "zoom", "zooms": "zoom", "zooming": "zoom",
    "move": "", "moves": "", "moving": "", "dolly": "dolly", "dollies": "dolly",
}  # fmt: skip
_SIDES = "left|right|up|down|in|out|forwards?|backwards?|back"
_PHRASE = re.compile(
    rf"(?:\b(?:camera|view)\s+(?:slowly\s+|quickly\s+)?(?P<verb>{'|'.join(_VERBS)})"
    r"|\b(?P<alone>panning|tilting|zooming)|(?:^|[,;.:])\s*(?P<first>moving))"
    rf"\s+(?:to\s+the\s+)?(?P<side>{_SIDES})\b"
)


@lru_cache(maxsize=256)
def implied_motion(text: str) -> CameraMotion:
    """Add the camera moves that a prompt names, at their usual speeds; still without any."""
    total = STILL
    for match in _PHRASE.finditer(text.lower()):
        verb = _VERBS[match["verb"] or match["alone"] or match["first"]]
        name = f"{verb} {match['side']}".strip()
        move = MOVES.get(OTHER_NAMES.get(name, name))
        if move is not None:
            total += move.at_one.scaled(move.usual)
    return total


def implied_path(text: str) -> CameraPath:
    """The path of a camera that always moves as a prompt says; its lens stays as it is."""
    return _moving(implied_motion(text))


def turning_path(text: str, before: str, since: int) -> CameraPath:
    """The path of a camera `since` latent frames after the prompt `before` gave way to `text`."""
    motion, old = implied_motion(text), implied_motion(before)
    if since >= len(TURN_SHARES) or motion == old:
        return implied_path(text)
    return _moving(old.toward(motion, TURN_SHARES[since]))


@lru_cache(maxsize=256)
def _moving(motion: CameraMotion) -> CameraPath:
    """The path of a camera that always moves alike; passes ask for the same again and again."""
    step = from_twist(motion.twist(_AT_FULL_SPEED.frame_s))
    return _AT_FULL_SPEED.then(1, [PathEntry(1, step)])
