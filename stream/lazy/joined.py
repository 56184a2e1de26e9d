"""A stream joined from several: a generator requests source chunks and yields joined ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .mapped import ClosableReader, Readable, let_others_end, let_others_take

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NextChunk:
    """A request for the next chunk of a source. The answer is None if the source has ended."""

    source: int


JoinSteps = Generator[NextChunk | T, S | None, None]
"""Yields requests and joined chunks; is sent the answer to each request."""


@dataclass(frozen=True, slots=True)
class JoinStart(Generic[S, T]):
    """Where a reader begins: its steps, how many joined chunks of them it passes over, and the
    chunk from which it reads every source.
    """

    steps: JoinSteps[T, S]
    unread: int = 0
    source_chunk: int = 0


class JoinedStream(Generic[S, T]):
    """The chunks that are made from the chunks of `sources`; `start(i)` begins a reader of chunk i.

    Readers read the sources themselves, so that all readers of the sources advance in step. Unless
    `at_once`, a source is subscribed to at its first request; until then, its other readers do not
    wait for this one. The chunk of a single source is sent to the steps once its readers have it
    too. If the steps fail, the reader raises the error once all other readers of the sources have
    ended.
    """

    def __init__(
        self,
        sources: Sequence[Readable[S]],
        start: Callable[[int], JoinStart[S, T]],
        *,
        length: int | None = None,
        at_once: bool = True,
    ) -> None:
        self.length = length
        self._sources = sources
        self._start = start
        self._at_once = at_once

    def __iter__(self) -> Iterator[T]:
        return self.read_from(0)

    def read_from(self, index: int) -> Iterator[T]:
        """Read alone, from chunk `index` on."""
        readers: dict[int, Iterator[S]] = {}
        start = self._start(index)
        answer, unread = None, start.unread
        while True:
            try:
                step = start.steps.send(answer)
            except StopIteration:
                return
            answer = None
            if isinstance(step, NextChunk):
                if step.source not in readers:
                    source = self._sources[step.source]
                    readers[step.source] = source.read_from(start.source_chunk)
                answer = next(readers[step.source], None)
            elif unread:
                unread -= 1
            else:
                yield step

    def subscribe(self, first: int = 0) -> JoinedSubscription[S, T]:
        """Read in step with the readers of the sources; requires a running event loop."""
        return JoinedSubscription(self._sources, self._start(first), at_once=self._at_once)


class JoinedSubscription(AsyncIterator[T], Generic[S, T]):
    """A reader in step with every other reader of the sources."""

    def __init__(
        self,
        sources: Sequence[Readable[S]],
        start: JoinStart[S, T],
        *,
        at_once: bool,
    ) -> None:
        self._sources, self._source_chunk = sources, start.source_chunk
        self._unread = start.unread
        self._steps: JoinSteps[T, S] | None = start.steps
        self._readers: dict[int, ClosableReader[S]] = {}
        if at_once:
            self._readers = {number: self._subscribe(number) for number in range(len(sources))}

    def __aiter__(self) -> JoinedSubscription[S, T]:
        return self

    def __enter__(self) -> JoinedSubscription[S, T]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close the sources' readers too; an interrupt ends all other readers."""
        self._steps = None
        for reader in self._readers.values():
            reader.__exit__(kind, error, traceback)

    async def __anext__(self) -> T:
        answer: S | None = None
        try:
            while (step := await self._step(answer)) is not None:
                if isinstance(step, NextChunk):
                    answer = await self._next_of(step.source)
                elif not self._unread:
                    return step
                else:
                    self._unread, answer = self._unread - 1, None
        except BaseException as error:  # failed or cancelled: release the others
            self.__exit__(type(error), error, error.__traceback__)  # or, interrupted, end them
            raise
        self.close()
        raise StopAsyncIteration

    async def _step(self, answer: S | None) -> NextChunk | T | None:
        """Send an answer to the steps; None at their end."""
        if self._steps is None:
            return None
        try:
            return self._steps.send(answer)
        except StopIteration:
            return None
        except Exception as error:
            self._steps = None
            await let_others_end(error, *self._readers.values())
            raise

    async def _next_of(self, source: int) -> S | None:
        if source not in self._readers:
            self._readers[source] = self._subscribe(source)
        reader = self._readers[source]
        try:
            chunk = await reader.__anext__()
        except StopAsyncIteration:
            return None
        if len(self._sources) == 1:  # else others would make the next chunk before this has all
            await let_others_take(reader)
        return chunk

    def _subscribe(self, source: int) -> ClosableReader[S]:
        return self._sources[source].subscribe(self._source_chunk)

    def hold(self, holds: bool) -> None:
        """Let others wait with the next chunks until this one is done with the last, or no more."""
        for reader in self._readers.values():
            reader.hold(holds)

    def is_ahead(self) -> bool:
        """Whether a reader waits for a chunk that this one took last; an interrupt is raised."""
        return any(reader.is_ahead() for reader in self._readers.values())

    @property
    def others_read(self) -> bool:
        """Whether another task reads a source."""
        return any(reader.others_read for reader in self._readers.values())

    async def wait_for_others(self) -> None:
        """Take no more chunks, and return once no other task reads the sources."""
        self._steps = None
        await asyncio.gather(*(reader.wait_for_others() for reader in self._readers.values()))

    def close(self) -> None:
        """Stop reading and release the other readers; closing twice is harmless."""
        self._steps = None
        for reader in self._readers.values():
            reader.close()
