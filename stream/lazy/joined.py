"""One stream made of several: a recipe asks for the chunks it needs and gives those it makes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .mapped import ClosableReader, Readable

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Want:
    """A recipe's wish for the next chunk of a source; it is sent None where that has ended."""

    source: int


ChunkProducer = Generator[Want | T, S | None, None]
"""A recipe at work: yields wishes and made chunks."""


class JoinedStream(Generic[S, T]):
    """The chunks that `recipe` makes of those of `sources`.

    Readers read the sources themselves, so that all who do advance in step. Unless `at_once`, a
    source is joined only when it is first wanted, and its other readers do not wait until then.
    """

    def __init__(
        self,
        sources: Sequence[Readable[S]],
        recipe: Callable[[], ChunkProducer[T, S]],
        *,
        length: int | None = None,
        at_once: bool = True,
    ) -> None:
        self.length = length
        self._sources = sources
        self._recipe = recipe
        self._at_once = at_once

    def __iter__(self) -> Iterator[T]:
        return self.read_from(0)

    def read_from(self, index: int) -> Iterator[T]:
        """Read alone, from chunk `index` on; those before are made too."""
        readers: dict[int, Iterator[S]] = {}
        making, answer, number = self._recipe(), None, 0
        while True:
            try:
                made = making.send(answer)
            except StopIteration:
                return
            answer = None
            if isinstance(made, Want):
                if made.source not in readers:
                    readers[made.source] = self._sources[made.source].read_from(0)
                answer = next(readers[made.source], None)
                continue
            if number >= index:
                yield made
            number += 1

    def subscribe(self) -> JoinedSubscription[S, T]:
        """Join the readers of the sources in step; needs a running event loop."""
        return JoinedSubscription(self._sources, self._recipe(), at_once=self._at_once)


class JoinedSubscription(AsyncIterator[T], Generic[S, T]):
    """A reader in step with every other reader of the sources."""

    def __init__(
        self, sources: Sequence[Readable[S]], making: ChunkProducer[T, S], *, at_once: bool
    ) -> None:
        self._sources = sources
        self._making: ChunkProducer[T, S] | None = making
        self._readers: dict[int, ClosableReader[S]] = {}
        if at_once:
            self._readers = {i: source.subscribe() for i, source in enumerate(sources)}

    def __aiter__(self) -> JoinedSubscription[S, T]:
        return self

    def __enter__(self) -> JoinedSubscription[S, T]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close, as the sources do: an interrupt ends every reader."""
        self._making = None
        for reader in self._readers.values():
            reader.__exit__(kind, error, traceback)

    async def __anext__(self) -> T:
        answer: S | None = None
        try:
            while self._making is not None:
                made = self._making.send(answer)
                if not isinstance(made, Want):
                    return made
                answer = await self._next_of(made.source)
        except StopIteration:
            self.close()
        except BaseException:  # failed, interrupted or cancelled: release the others
            self.close()
            raise
        raise StopAsyncIteration

    async def _next_of(self, source: int) -> S | None:
        if source not in self._readers:
            self._readers[source] = self._sources[source].subscribe()
        try:
            return await self._readers[source].__anext__()
        except StopAsyncIteration:
            return None

    def close(self) -> None:
        """Stop reading and release the others; closing twice is harmless."""
        self._making = None
        for reader in self._readers.values():
            reader.close()
