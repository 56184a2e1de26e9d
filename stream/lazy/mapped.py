"""A stream made of another one, chunk by chunk: what an output after another output's source reads.

Readers of the mapped stream read the source itself, so that all of them advance in step, and a
chunk is held only while someone reads.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, Protocol, TypeVar

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Readable(Protocol[T_co]):
    """What is needed of a stream to read it."""

    @property
    def length(self) -> int | None:
        """The number of chunks, where it is known."""

    def read_from(self, index: int) -> Iterator[T_co]:
        """Read alone, from chunk `index` on."""

    def subscribe(self) -> ClosableReader[T_co]:
        """Join the readers in step, from chunk 0."""


class ClosableReader(Protocol[T_co]):
    """A reader in step with the others, until it is closed."""

    async def __anext__(self) -> T_co:
        """The next chunk."""

    def close(self) -> None:
        """Stop reading and release the others."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close; an interrupt ends the others too."""


class MappedStream(Generic[S, T]):
    """`make` applied to every chunk of `source`, once for all who read in step.

    `make` runs where the chunk is read, and may raise: that reader ends, the others go on.
    """

    def __init__(self, source: Readable[S], make: Callable[[S], T]) -> None:
        self._source = source
        self._make = make
        # Readers own the newest chunk, so that its memory goes when the last reader goes.
        self._newest: weakref.ref[_Newest[S, T]] | None = None

    @property
    def length(self) -> int | None:
        """The number of chunks, where it is known."""
        return self._source.length

    def __iter__(self) -> Iterator[T]:
        return self.read_from(0)

    def read_from(self, index: int) -> Iterator[T]:
        """Read alone, from chunk `index` on."""
        newest = self._shared_newest()
        return (newest.made_of(chunk) for chunk in self._source.read_from(index))

    def subscribe(self) -> MappedSubscription[S, T]:
        """Join the readers in step, those of the source too; needs a running event loop."""
        return MappedSubscription(self._source.subscribe(), self._shared_newest())

    def _shared_newest(self) -> _Newest[S, T]:
        newest = self._newest() if self._newest else None
        if newest is None:
            newest = _Newest(self._make)
            self._newest = weakref.ref(newest)
        return newest


class MappedSubscription(AsyncIterator[T], Generic[S, T]):
    """A reader in step with every other reader of the source."""

    def __init__(self, source: ClosableReader[S], newest: _Newest[S, T]) -> None:
        self._source = source
        self._newest: _Newest[S, T] | None = newest

    def __aiter__(self) -> MappedSubscription[S, T]:
        return self

    def __enter__(self) -> MappedSubscription[S, T]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close, as the source does: an interrupt ends every reader."""
        self._newest = None
        self._source.__exit__(kind, error, traceback)

    async def __anext__(self) -> T:
        try:
            chunk = await self._source.__anext__()
            if self._newest is None:  # closed
                raise StopAsyncIteration
            return self._newest.made_of(chunk)
        except BaseException:  # ended, failed, interrupted or cancelled: release the others
            self.close()
            raise

    def close(self) -> None:
        """Stop reading and release the others; closing twice is harmless."""
        self._newest = None
        self._source.close()


class _Newest(Generic[S, T]):
    """The chunk made last, and what it was made of."""

    def __init__(self, make: Callable[[S], T]) -> None:
        self._make = make
        self._pair: tuple[S, T] | None = None

    def made_of(self, chunk: S) -> T:
        """What `chunk` becomes; made anew unless it was the last one asked for."""
        if self._pair is None or self._pair[0] is not chunk:
            self._pair = None  # do not hold two chunks while making one
            self._pair = (chunk, self._make(chunk))
        return self._pair[1]
