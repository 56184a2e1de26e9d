"""Streams: lazily produced, re-iterable sequences of chunks that several readers take side by side.

All readers of a stream share one line of production. A chunk is held only until the next one is
made; a reader that comes later reads it back from where it is stored, or has it made again.

    Stream          what a socket of the graph carries; costs nothing until someone reads
      Cursor        reads alone, from chunk 0 (synchronous consumers)
      Subscription  reads in step with the other subscriptions (asynchronous consumers)

One thread, the one that reads, produces. Nothing here may be shared between threads.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, NoReturn, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


def nothing_stored(index: int) -> None:
    """Say that chunk `index` is not kept anywhere."""


class Stream(Generic[T]):
    """A sequence of chunks: `open(i)` starts making chunk i, `stored(i)` reads it or is None.

        for chunk in stream: ...                        # alone
        with stream.subscribe() as reader:              # in step with every other subscription
            async for chunk in reader: ...

    `length` is the number of chunks where it is known: it lets a fully stored stream end without
    opening production. Production that raised, even a host's interrupt, is dead; the next reader
    opens it again at the first chunk that is not stored.
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
        # Readers own the line, so that production and its memory go when the last reader goes.
        self._line: weakref.ref[_Line[T]] | None = None

    def __iter__(self) -> Cursor[T]:
        return self.read_from(0)

    def read_from(self, index: int) -> Cursor[T]:
        """Read alone, from chunk `index` on."""
        return Cursor(self._shared_line(), index)

    def subscribe(self) -> Subscription[T]:
        """Join the readers in step, from chunk 0; must be called within a running event loop."""
        return Subscription(self._shared_line())

    def _shared_line(self) -> _Line[T]:
        line = self._line() if self._line else None
        if line is None or line.failed:
            line = _Line(self)
            self._line = weakref.ref(line)
        return line


class Cursor(Iterator[T]):
    """One reader's place in a stream: the `index` of the chunk it takes next."""

    def __init__(self, line: _Line[T], index: int) -> None:
        self.index = index
        self._line = line
        self._again: Iterator[T] | None = None

    def __next__(self) -> T:
        chunk = self._line.chunk(self.index)
        if chunk is None:
            chunk = self._make_again()
        else:
            self._again = None
        self.index += 1
        return chunk

    def _make_again(self) -> T:
        """Make a chunk that the line has passed and nobody stored, leaving the line where it is."""
        if self._again is None:
            self._again = self._line.stream.open(self.index)
        try:
            return next(self._again)
        except BaseException:
            self._again = None
            raise


class Subscription(AsyncIterator[T]):
    """A reader in step with the others: the next chunk is made when each of them has the last.

    It belongs to the task that reads it. When that task ends, in whatever way, or the subscription
    is closed, dropped or cancelled, the others go on without it.
    """

    def __init__(self, line: _Line[T]) -> None:
        self._line: _Line[T] | None = line
        self._cursor: Cursor[T] | None = Cursor(line, 0)
        self._wakened = asyncio.Event()
        self._error: BaseException | None = None
        self._owner: asyncio.Task[object] | None = None
        self._on_owner_done = _weak_close(self)
        self._follow(asyncio.current_task())
        line.subscriptions.add(self)

    def __aiter__(self) -> Subscription[T]:
        return self

    def __enter__(self) -> Subscription[T]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close. An interrupt, which is no `Exception`, ends the others too: a host raises it only
        once, wherever it is looked for first.
        """
        own = (Exception, asyncio.CancelledError, GeneratorExit)
        if self._line is not None and error is not None and not isinstance(error, own):
            self._line.fail(error)
        self.close()
        self._error = None  # its traceback would keep the producer's memory

    async def __anext__(self) -> T:
        self._follow(asyncio.current_task())
        try:
            await self._yield_to_others()
            return await self._take()
        except BaseException:  # ended, failed, interrupted or cancelled: release the others
            self.close()
            self._error = None  # its traceback would keep the producer's memory
            raise

    def close(self) -> None:
        """Stop reading and release the others; closing twice is harmless."""
        line, self._line, self._cursor = self._line, None, None
        self._follow(None)
        if line is not None:
            line.subscriptions.discard(self)
            line.wake()
        self.wake()

    def fail(self, error: BaseException) -> None:
        """Raise `error` at the next reading."""
        self._error = error
        self.close()

    def __del__(self) -> None:
        self.close()

    def wake(self) -> None:
        """Look again whether a chunk can be taken."""
        self._wakened.set()

    def holds_back(self, index: int, asking: asyncio.Task[object] | None) -> bool:
        """Whether the task `asking` must wait for this reader to take chunk `index`.

        It does not wait for a reader of its own: it could wait for ever.
        """
        if self._cursor is None or self._owner is asking or (self._owner and self._owner.done()):
            return False
        return self._cursor.index <= index

    async def _yield_to_others(self) -> None:
        """Give the event loop a turn; before the first chunk, wait until nobody new subscribes.

        The host starts one output per turn, after the turn of those already started: hence two.
        """
        await asyncio.sleep(0)
        line, seen = self._line, 0
        while line is not None and line.position == 0 and seen != len(line.subscriptions):
            seen = len(line.subscriptions)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def _take(self) -> T:
        while self._line is not None and self._cursor is not None:
            self._wakened.clear()
            if self._line.has_for(self._cursor.index, self._owner):
                return _advance(self._line, self._cursor)
            await self._wakened.wait()
        raise self._error or StopAsyncIteration

    def _follow(self, task: asyncio.Task[object] | None) -> None:
        """Make `task` the owner whose end closes this subscription."""
        if task is self._owner:
            return
        if self._owner is not None:
            self._owner.remove_done_callback(self._on_owner_done)
        if task is not None:
            task.add_done_callback(self._on_owner_done)
        self._owner = task


def _advance(line: _Line[T], cursor: Cursor[T]) -> T:
    """Take the next chunk. A failure is everybody's: a host raises an interrupt only once."""
    try:
        return next(cursor)
    except StopIteration:
        raise StopAsyncIteration from None
    except BaseException as error:
        line.fail(error)
        raise
    finally:
        line.wake()


def _weak_close(subscription: Subscription[T]) -> Callable[[object], None]:
    """A task's done callback that closes the subscription without keeping it alive."""
    reference = weakref.ref(subscription)

    def close(_: object) -> None:
        alive = reference()
        if alive is not None:
            alive.close()

    return close


class _Line(Generic[T]):
    """The production that all readers of a stream share; it makes chunk `position` next."""

    def __init__(self, stream: Stream[T]) -> None:
        self.stream = stream
        self.position = 0
        self.failed = False
        self.subscriptions: weakref.WeakSet[Subscription[T]] = weakref.WeakSet()
        self._newest: T | None = None
        self._ended = False
        self._producer: Iterator[T] | None = None

    def chunk(self, index: int) -> T | None:
        """Chunk `index`, held, made or stored; None where it must be made again."""
        if index > self.position and self._producer is None:
            self.position, self._newest = index, None  # whoever is behind reads what is stored
        if index == self.position:
            return self._make_next()
        if index == self.position - 1 and self._newest is not None:
            return self._newest
        return self.stream.stored(index)

    def has_for(self, index: int, asking: asyncio.Task[object] | None) -> bool:
        """Whether chunk `index` can be had without leaving another task's subscription behind."""
        if index < self.position or self._ended:
            return True
        newest = self.position - 1
        return not any(reader.holds_back(newest, asking) for reader in self.subscriptions)

    def fail(self, error: BaseException) -> None:
        """Raise `error` in every subscription; whoever comes later starts a new line."""
        self.failed = True
        for reader in list(self.subscriptions):
            reader.fail(error)

    def wake(self) -> None:
        """Let every waiting subscription look again."""
        for reader in list(self.subscriptions):
            reader.wake()

    def _make_next(self) -> T:
        self._newest = None  # everyone in step has it: do not hold two chunks while making one
        length = self.stream.length
        if self._ended or (length is not None and self.position >= length):
            self._end()
        chunk = None if self._producer else self.stream.stored(self.position)
        self._newest = chunk = self._produce() if chunk is None else chunk
        self.position += 1
        return chunk

    def _produce(self) -> T:
        if self._producer is None:
            self._producer = self.stream.open(self.position)
        try:
            return next(self._producer)
        except StopIteration:
            self._end()
        except BaseException:
            failed, self._producer = self._producer, None  # a generator that raised is dead
            _close(failed)
            raise

    def _end(self) -> NoReturn:
        """Finish production, letting the producer release what it holds."""
        producer, self._producer, self._ended = self._producer, None, True
        _close(producer)
        raise StopIteration

    def __del__(self) -> None:
        _close(self._producer)  # the last reader has gone


def _close(producer: object) -> None:
    """Let a producer release what it holds, where it is one that can."""
    if isinstance(producer, Closable):
        producer.close()


@runtime_checkable
class Closable(Protocol):
    """What holds something open, as a generator does."""

    def close(self) -> None:
        """Let go of it."""
