"""A stream whose chunks are computed from another stream's, one by one.

Readers of the mapped stream read the source itself. All of them therefore advance in step, and a
chunk is held only while there are readers.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from .newest import Newest, SharedNewest

logger = logging.getLogger("longtake")

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Readable(Protocol[T_co]):
    """A stream that can be read."""

    @property
    def length(self) -> int | None:
        """The number of chunks, if known."""

    def read_from(self, index: int) -> Iterator[T_co]:
        """Read alone, from chunk `index` on."""

    def subscribe(self, first: int = 0) -> ClosableReader[T_co]:
        """Read in step with others, from chunk `first` on."""


class ClosableReader(Protocol[T_co]):
    """A reader in step with the others, until it is closed."""

    async def __anext__(self) -> T_co:
        """The next chunk, once every other reader has taken the one before."""

    def hold(self, holds: bool) -> None:
        """Let others wait with the next chunk until this one is done with the last, or no more."""

    def is_ahead(self) -> bool:
        """Whether a reader waits for the chunk that this one took last; an interrupt is raised."""

    def close(self) -> None:
        """Stop reading and release the other readers."""

    @property
    def others_read(self) -> bool:
        """Whether another task reads the source."""

    async def wait_for_others(self) -> None:
        """Take no more chunks, and return once no other task reads the source."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close; an interrupt ends the other readers too."""


class MappedStream(Generic[S, T]):
    """`convert` applied to every chunk of `source`, once for all readers in step.

    `convert` runs in the reader that is first, after the readers of the source have got the chunk.
    If it fails, the others go on, and that reader raises the error once all other readers of the
    source have ended.
    """

    def __init__(self, source: Readable[S], convert: Callable[[S], T]) -> None:
        self._source = source
        self._convert = convert
        self._newest = SharedNewest[S, T]()

    @property
    def length(self) -> int | None:
        """The number of chunks, if known."""
        return self._source.length

    def __iter__(self) -> Iterator[T]:
        return self.read_from(0)

    def read_from(self, index: int) -> Iterator[T]:
        """Read alone, from chunk `index` on."""
        newest = self._newest.lend()
        return (
            newest.of(chunk, partial(self._convert, chunk))
            for chunk in self._source.read_from(index)
        )

    def subscribe(self, first: int = 0) -> MappedSubscription[S, T]:
        """Read in step with others, also of the source; requires a running event loop."""
        return MappedSubscription(self._source.subscribe(first), self._newest.lend(), self._convert)


class MappedSubscription(AsyncIterator[T], Generic[S, T]):
    """A reader in step with every other reader of the source."""

    def __init__(
        self, source: ClosableReader[S], newest: Newest[S, T], convert: Callable[[S], T]
    ) -> None:
        self._source = source
        self._newest: Newest[S, T] | None = newest
        self._convert = convert

    def __aiter__(self) -> MappedSubscription[S, T]:
        return self

    def __enter__(self) -> MappedSubscription[S, T]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close the source's reader too; an interrupt ends all other readers."""
        self._newest = None
        self._source.__exit__(kind, error, traceback)

    async def __anext__(self) -> T:
        try:
            chunk = await self._source.__anext__()
            await let_others_take(self._source)
            if self._newest is None:  # closed
                raise StopAsyncIteration
            try:
                return self._newest.of(chunk, partial(self._convert, chunk))
            except Exception as error:
                self._newest = None
                await let_others_end(error, self._source)
                raise
        except BaseException as error:  # ended, failed or cancelled: release the others
            self.__exit__(type(error), error, error.__traceback__)  # or, interrupted, end them
            raise

    def hold(self, holds: bool) -> None:
        """Let others wait with the next chunk until this one is done with the last, or no more."""
        self._source.hold(holds)

    def is_ahead(self) -> bool:
        """Whether a reader waits for the chunk that this one took last; an interrupt is raised."""
        return self._source.is_ahead()

    @property
    def others_read(self) -> bool:
        """Whether another task reads the source."""
        return self._source.others_read

    async def wait_for_others(self) -> None:
        """Take no more chunks, and return once no other task reads the source."""
        self._newest = None
        await self._source.wait_for_others()

    def close(self) -> None:
        """Stop reading and release the other readers; closing twice is harmless."""
        self._newest = None
        self._source.close()


async def let_others_take(source: ClosableReader[Any]) -> None:
    """Before the work of a stage: return once each reader that waits for this chunk has it too.

    So a base is shown before its stage works, whichever output asked first. Each of those readers
    can take the chunk in its next turns; none is waited for that depends on this one.
    """
    source.hold(True)
    try:
        await asyncio.sleep(0)  # readers of the same stage, where they have their turn already
        while source.is_ahead():
            await asyncio.sleep(0)
    finally:
        source.hold(False)


async def let_others_end(error: Exception, *sources: ClosableReader[Any]) -> None:
    """After `error` of one stage: return once the other readers of its sources have all they want.

    A host ends every node of a prompt with the first one that fails, also those whose frames do not
    need the failed stage. What the failed calls held is freed at once; so the error must not list
    calls of another reader, which may still run.
    """
    traceback.clear_frames(error.__traceback__)
    if any(source.others_read for source in sources):
        logger.warning("Frames that do not need what failed are made first (%r).", error)
    await asyncio.gather(*(source.wait_for_others() for source in sources))
