"""Streams: lazily produced, re-iterable sequences of chunks that several readers share.

All readers of a stream share one production. It holds a chunk only until the next one is made. A
late reader gets earlier chunks from storage, or has them made again.

    Stream          the value on a socket of the graph; costs nothing until someone reads
      Cursor        reads alone, from chunk 0 (synchronous consumers)
      Subscription  reads in step with the other subscriptions (asynchronous consumers)

The thread that reads also produces. A stream must not be shared between threads.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from .production import Cursor, Production
from .subscription import Subscription

T = TypeVar("T")


def nothing_stored(index: int) -> None:
    """The `stored` of a stream that keeps no chunks."""


class Stream(Generic[T]):
    """A sequence of chunks: `open(i)` starts making chunk i, `stored(i)` reads it or is None.

        for chunk in stream: ...                        # alone
        with stream.subscribe() as reader:              # in step with every other subscription
            async for chunk in reader: ...

    `length` is the number of chunks, if known: a fully stored stream then ends without production.
    A production that raised, even a host's interrupt, is dead. The next reader starts a new one at
    the first chunk that is not stored.
    """

    def __init__(
        self,
        open: Callable[[int], Iterator[T]],
        *,
        stored: Callable[[int], T | None] = nothing_stored,
        length: int | None = None,
    ) -> None:
        self.open = open
        self.stored = stored
        self.length = length
        self._production: weakref.ref[Production[T]] | None = None  # owned by its readers

    def __iter__(self) -> Cursor[T]:
        return self.read_from(0)

    def read_from(self, index: int) -> Cursor[T]:
        """Read alone, from chunk `index` on."""
        return Cursor(self._shared_production(), index)

    def subscribe(self, first: int = 0) -> Subscription[T]:
        """Read in step with others from chunk `first` on; requires a running event loop."""
        return Subscription(self._shared_production(), first)

    def _shared_production(self) -> Production[T]:
        production = self._production() if self._production else None
        if production is None or production.failed:
            production = Production(self)
            self._production = weakref.ref(production)
        return production
