"""A producer whose chunks are counted, and readers of its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from longtake.stream.lazy.stream import Stream
from longtake.stream.lazy.subscription import Subscription

LENGTH = 6


class Interrupt(BaseException):
    """As the host raises it: not an Exception."""


class Item:
    """A chunk that can be watched by weak references."""

    def __init__(self, index: int) -> None:
        self.index = index


class Studio:
    """A producer of `LENGTH` chunks that counts what it does and fails once where asked."""

    def __init__(
        self, *, kept: bool = True, fails_at: dict[int, BaseException] | None = None
    ) -> None:
        self.made: list[int] = []
        self.opened: list[int] = []
        self.released = 0
        self.kept: dict[int, int] | None = {} if kept else None
        self.fails_at = fails_at or {}

    def open(self, first: int) -> Iterator[int]:
        self.opened.append(first)
        try:
            for index in range(first, LENGTH):
                if index in self.fails_at:
                    raise self.fails_at.pop(index)
                self.made.append(index)
                if self.kept is not None:
                    self.kept[index] = index
                yield index
        finally:
            self.released += 1

    def stored(self, index: int) -> int | None:
        return None if self.kept is None else self.kept.get(index)

    def stream(self, length: int | None = None) -> Stream[int]:
        return Stream(self.open, stored=self.stored, length=length)


async def collect(subscription: Subscription[int], log: list[int] | None = None) -> list[int]:
    taken = log if log is not None else []
    async for chunk in subscription:
        taken.append(chunk)
    return taken


def run(main: Callable[[], object]) -> object:
    """Run the coroutine function `main`; a test that hangs fails."""
    return asyncio.run(asyncio.wait_for(main(), timeout=60))  # type: ignore[arg-type]
