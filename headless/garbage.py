"""How often Python looks for objects that refer to each other and to which nothing else refers."""

from __future__ import annotations

import gc

NEW_OBJECTS = 20_000
"""Python's own number, 700 or 2,000, makes it walk through all of torch again and again while torch
loads: some .15 s of a short run."""


def collect_rarely() -> None:
    """Look after so many new objects, and through all objects as seldom as Python chooses."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
