"""The production of a stream: makes each chunk once for all readers and holds only the newest."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, NoReturn, Protocol, TypeVar, runtime_checkable

from ...errors import LongtakeError
from .waits import depends_on

logger = logging.getLogger("longtake")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Where chunks come from: `open(i)` starts making chunk i, `stored(i)` reads it or is None."""

    @property
    def open(self) -> Callable[[int], Iterator[T_co]]: ...

    @property
    def stored(self) -> Callable[[int], T_co | None]: ...

    @property
    def length(self) -> int | None: ...


class Subscriber(Protocol):
    """A reader in step with the others."""

    def wake(self) -> None:
        """Check again whether a chunk can be taken."""

    def fail(self, error: BaseException) -> None:
        """Raise `error` at the next read."""

    owner: asyncio.Task[object] | None  # the task that reads there

    def is_behind(self, index: int) -> bool:
        """Whether this subscriber is not done with chunk `index`, and will still be."""

    def awaits(self, index: int) -> bool:
        """Whether a task waits for chunk `index` there."""

    def reads_beside(self, task: asyncio.Task[object] | None) -> bool:
        """Whether this subscriber still takes chunks, for another task."""


@runtime_checkable
class Closable(Protocol):
    """An object that holds resources until it is closed, as a generator does."""

    def close(self) -> None:
        """Release the resources; nothing can be read afterwards."""


class Production(Generic[T]):
    """What all readers of a source share; makes chunk `position` next.

    The readers own it, so that the producer and its memory go with the last reader.
    """

    def __init__(self, source: Source[T]) -> None:
        self.source = source
        self.position = 0
        self.failed = False
        self.subscribers: weakref.WeakSet[Subscriber] = weakref.WeakSet()
        self._newest: T | None = None
        self._ended = False
        self._producer: Iterator[T] | None = None

    def chunk(self, index: int) -> T | None:
        """Chunk `index`, held, new or stored; None if the reader must make it again."""
        if index > self.position and self._producer is None:
            self.position, self._newest = index, None  # readers behind this read stored chunks
        if index == self.position:
            return self._advance()
        if index == self.position - 1 and self._newest is not None:
            return self._newest
        return self.source.stored(index)

    def has_for(self, index: int, reader: asyncio.Task[object] | None) -> bool:
        """Whether task `reader` can take chunk `index` without leaving a subscriber behind.

        A task never waits for a subscriber of its own, nor of a task that waits for it: either
        could last for ever.
        """
        return all(depends_on(owner, reader) for owner in self._owners_behind(index))

    def holders(self, index: int) -> set[asyncio.Task[object]]:
        """The tasks without which chunk `index` is not made; none where it is."""
        return {owner for owner in self._owners_behind(index) if owner is not None}

    def _owners_behind(self, index: int) -> list[asyncio.Task[object] | None]:
        if index < self.position or self._ended:
            return []
        return [each.owner for each in self.subscribers if each.is_behind(index - 1)]

    def is_awaited(self, index: int) -> bool:
        """Whether a subscriber waits for chunk `index`."""
        return any(subscriber.awaits(index) for subscriber in self.subscribers)

    def is_read_beside(self, task: asyncio.Task[object] | None) -> bool:
        """Whether a subscriber of another task still takes chunks."""
        return any(subscriber.reads_beside(task) for subscriber in self.subscribers)

    def fail(self, error: BaseException) -> None:
        """Raise `error` in every subscriber; later readers start a new production."""
        self.failed = True
        for subscriber in list(self.subscribers):
            subscriber.fail(error)

    def wake(self) -> None:
        """Make every waiting subscriber check again."""
        for subscriber in list(self.subscribers):
            subscriber.wake()

    def _advance(self) -> T:
        self._newest = None  # all readers in step have it: never hold two chunks
        length = self.source.length
        if self._ended or (length is not None and self.position >= length):
            self._end()
        chunk = None if self._producer else self.source.stored(self.position)
        self._newest = chunk = self._produce() if chunk is None else chunk
        self.position += 1
        return chunk

    def _produce(self) -> T:
        if self._producer is None:
            self._producer = self.source.open(self.position)
        try:
            return next(self._producer)
        except StopIteration:
            self._end()
        except BaseException:
            failed, self._producer = self._producer, None  # a generator that raised is dead
            _close(failed)
            raise

    def _end(self) -> NoReturn:
        """Close the producer, so that it releases its resources."""
        producer, self._producer, self._ended = self._producer, None, True
        _close(producer)
        raise StopIteration

    def __del__(self) -> None:
        try:
            _close(self._producer)  # the last reader is gone, so nobody else can be told
        except LongtakeError as error:
            logger.warning("%s", error)


class Cursor(Iterator[T]):
    """A reader's position in a stream: `index` is the chunk it takes next."""

    def __init__(self, production: Production[T], index: int) -> None:
        self.index = index
        self._production = production
        self._catch_up: Iterator[T] | None = None

    def __next__(self) -> T:
        chunk = self._production.chunk(self.index)
        if chunk is None:
            chunk = self._make_again()
        else:
            self._catch_up = None
        self.index += 1
        return chunk

    def _make_again(self) -> T:
        """Make a chunk that production has passed and nobody stored; production stays in place."""
        if self._catch_up is None:
            self._catch_up = self._production.source.open(self.index)
        try:
            return next(self._catch_up)
        except BaseException:
            self._catch_up = None
            raise


def _close(producer: object) -> None:
    if isinstance(producer, Closable):
        producer.close()
