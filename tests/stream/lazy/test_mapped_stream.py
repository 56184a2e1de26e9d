"""Laws of mapped streams: each chunk is converted once, none is kept, failures release others."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from longtake.stream.lazy.mapped import MappedStream
from longtake.stream.lazy.stream import Stream


class Chunk:
    """A number that supports weak references."""

    def __init__(self, value: int) -> None:
        self.value = value


def numbers(count: int) -> Stream[Chunk]:
    """A stream of numbered chunks."""

    def produce(first: int) -> Iterator[Chunk]:
        yield from (Chunk(value) for value in range(first, count))

    return Stream(produce, length=count)


class Doubling:
    """Doubles chunks and records which ones it converted and which are still alive."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.made: list[weakref.ref[Chunk]] = []

    def __call__(self, chunk: Chunk) -> Chunk:
        self.asked.append(chunk.value)
        made = Chunk(2 * chunk.value)
        self.made.append(weakref.ref(made))
        return made

    @property
    def alive(self) -> int:
        gc.collect()
        return sum(reference() is not None for reference in self.made)


async def read(stream: MappedStream[Chunk, Chunk] | Stream[Chunk]) -> list[int]:
    return [chunk.value async for chunk in stream.subscribe()]


def test_readers_in_step_share_each_chunk_with_each_other_and_with_the_source() -> None:
    make = Doubling()
    source = numbers(4)
    mapped = MappedStream(source, make)

    async def side_by_side() -> list[list[int]]:
        return await asyncio.gather(read(mapped), read(source), read(mapped))

    assert asyncio.run(side_by_side()) == [[0, 2, 4, 6], [0, 1, 2, 3], [0, 2, 4, 6]]
    assert make.asked == [0, 1, 2, 3]
    assert make.alive == 0  # though the stream itself lives


def test_one_chunk_is_held_while_reading() -> None:
    make = Doubling()
    for chunk in MappedStream(numbers(5), make):
        assert chunk.value % 2 == 0
        del chunk
        assert make.alive == 1
    assert make.alive == 0


def test_reading_from_the_middle_and_again_gives_the_same() -> None:
    mapped = MappedStream(numbers(5), Doubling())
    assert [chunk.value for chunk in mapped.read_from(3)] == [6, 8]
    assert [chunk.value for chunk in mapped] == [0, 2, 4, 6, 8] == asyncio.run(read(mapped))
    assert mapped.length == 5


def test_streams_can_be_mapped_twice() -> None:
    twice = MappedStream(MappedStream(numbers(3), Doubling()), Doubling())
    assert asyncio.run(read(twice)) == [0, 4, 8]


def test_a_failed_conversion_ends_its_reader_and_releases_the_others() -> None:
    source = numbers(4)

    def fail_at_two(chunk: Chunk) -> Chunk:
        if chunk.value == 2:
            raise OSError("no")
        return chunk

    async def side_by_side() -> list[list[int] | BaseException]:
        failing = MappedStream(source, fail_at_two)
        return await asyncio.gather(read(failing), read(source), return_exceptions=True)

    failed, whole = asyncio.run(side_by_side())
    assert isinstance(failed, OSError) and whole == [0, 1, 2, 3]


def test_a_closed_reader_gives_no_more() -> None:
    async def close_after_one() -> int:
        reader = MappedStream(numbers(4), Doubling()).subscribe()
        first = await reader.__anext__()
        reader.close()
        reader.close()
        with pytest.raises(StopAsyncIteration):
            await reader.__anext__()
        return first.value

    assert asyncio.run(close_after_one()) == 0


def test_an_interrupt_in_one_reader_ends_those_of_the_source() -> None:
    class Interrupt(BaseException):
        """A host's interrupt, which is no `Exception`."""

    async def interrupted() -> None:
        source = numbers(4)
        other = source.subscribe()
        with pytest.raises(Interrupt), MappedStream(source, Doubling()).subscribe():
            raise Interrupt
        with pytest.raises(Interrupt):
            await other.__anext__()

    asyncio.run(interrupted())
