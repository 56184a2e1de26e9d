"""Finds the NDI source that a name means among those that this network shows."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from threading import Event
from typing import Any

from ...errors import BadInput
from .library import load

LOOK_EVERY_S = 0.1
SETTLE_S = 1.0  # in which other sources of that name may show themselves
MOST_NAMES = 10  # that a sentence lists


def find(name: str, patience_s: float, ended: Event) -> Any:
    """The source of cyndilib that `name` means; BadInput if none is seen, or several fit.

    A full name is taken at once. `ended` ends the search early.
    """
    source, fitting, seen = _look(name, patience_s, ended)
    if source is not None:
        return source
    gc.collect()  # a finder's thread lasts until then, since it and its sources form a circle
    if fitting:
        raise BadInput(
            f"The name {name} fits {len(fitting)} NDI sources: {_listed(fitting)}; give the whole "
            "name of one."
        )
    raise _absence(name, seen, patience_s)


def _look(name: str, patience_s: float, ended: Event) -> tuple[Any, list[str], list[str]]:
    """The one source that `name` means, or None; all that fit; and all that are seen."""
    finder, until = load("finder").Finder(), time.monotonic() + patience_s
    fitting, settled_at = list[str](), until
    while True:
        finder.update_sources()
        seen, now = sorted(finder.get_source_names()), time.monotonic()
        if matches(name, seen) != fitting:
            fitting, settled_at = matches(name, seen), min(until, now + SETTLE_S)
        is_settled = name in seen or now >= (settled_at if fitting else until)
        if is_settled or ended.wait(LOOK_EVERY_S):
            break
    return finder.get_source(fitting[0]) if len(fitting) == 1 else None, fitting, seen


def matches(name: str, seen: Sequence[str]) -> list[str]:
    """The source called `name`; else those with it in brackets; else those with it as a part.

    NDI shows a source as MACHINE (NAME). Small and capital letters are the same but in full names.
    """
    if name in seen:
        return [name]
    small_name = name.casefold()
    small = {full: full.casefold() for full in seen}
    called = [full for full in seen if small[full] == small_name]
    bracketed = [full for full in seen if small[full].endswith(f" ({small_name})")]
    return called or bracketed or [full for full in seen if small_name in small[full]]


def _absence(name: str, seen: Sequence[str], patience_s: float) -> BadInput:
    others = f"those seen are {_listed(seen)}" if seen else "no other one is seen either"
    advice = "or give one of these names" if seen else "and let NDI pass the firewalls"
    return BadInput(
        f"No NDI source called {name} was there for {patience_s:g} s, and {others}; start the "
        f"program that sends, {advice}."
    )


def _listed(names: Sequence[str]) -> str:
    """The names in one line; other machines have chosen them, so control characters go."""
    shown = ["".join(filter(str.isprintable, name)) for name in names[:MOST_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
