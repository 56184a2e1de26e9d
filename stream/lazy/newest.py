"""The newest chunk of a stage, made once for all readers in step."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Newest(Generic[S, T]):
    """The last source chunk, and what was made of it."""

    def __init__(self) -> None:
        self._pair: tuple[S, T] | None = None

    def of(self, chunk: S, make: Callable[[], T]) -> T:
        """What is made of `chunk`: held where it is the last one, else made."""
        if self._pair is None or self._pair[0] is not chunk:
            self._pair = None  # never hold two chunks
            self._pair = (chunk, make())
        return self._pair[1]


class SharedNewest(Generic[S, T]):
    """Lends one `Newest` to all readers. They own it, so that its memory goes with the last one."""

    def __init__(self) -> None:
        self._newest: weakref.ref[Newest[S, T]] | None = None

    def lend(self) -> Newest[S, T]:
        """The one that other readers have, if there are any."""
        newest = self._newest() if self._newest else None
        if newest is None:
            newest = Newest[S, T]()
            self._newest = weakref.ref(newest)
        return newest
