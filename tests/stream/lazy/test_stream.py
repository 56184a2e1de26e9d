"""Laws of streams: readers in step, constant memory, every reader from its own chunk."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator

import pytest

from longtake.stream.lazy.stream import Stream
from longtake.stream.lazy.subscription import Subscription
from longtake.tests.support.stream.stream_studio import (
    LENGTH,
    Interrupt,
    Item,
    Studio,
    collect,
    run,
)


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_readers_in_step_advance_together_and_each_chunk_is_made_once(readers: int) -> None:
    studio = Studio(kept=False)
    events: list[tuple[int, int]] = []

    async def output(stream: Stream[int], name: int) -> None:
        async for chunk in stream.subscribe():
            events.append((chunk, name))
            assert studio.made[-1] - chunk <= 1

    async def main() -> None:
        stream = studio.stream()
        await asyncio.gather(*(output(stream, name) for name in range(readers)))

    run(main)
    assert studio.made == [*range(LENGTH)] and studio.opened == [0]
    assert [chunk for chunk, _ in events] == sorted([*range(LENGTH)] * readers)


@pytest.mark.parametrize("order", [(0, 3), (3, 0), (3, 0, 5), (0, 0, 2, 2)])
def test_readers_from_different_chunks_are_in_step_from_there_on(order: tuple[int, ...]) -> None:
    """No chunk is made twice; who begins later does not hold back the others before."""
    studio = Studio(kept=False)

    async def output(stream: Stream[int], first: int) -> list[int]:
        chunks = []
        async for chunk in stream.subscribe(first):
            chunks.append(chunk)
            assert studio.made[-1] - chunk <= 1
        return chunks

    async def main() -> None:
        stream = studio.stream()
        read = await asyncio.gather(*(output(stream, first) for first in order))
        assert read == [[*range(first, LENGTH)] for first in order]

    run(main)
    assert studio.made == [*range(LENGTH)] and studio.opened == [0]


def test_readers_that_begin_later_only_do_not_have_the_earlier_chunks_made() -> None:
    studio = Studio(kept=False)

    async def main() -> None:
        stream = studio.stream()
        outputs = [collect(stream.subscribe(first)) for first in (4, 3)]
        assert await asyncio.gather(*outputs) == [[*range(4, LENGTH)], [*range(3, LENGTH)]]

    run(main)
    assert studio.made == [*range(3, LENGTH)] and studio.opened == [3]


def test_outputs_started_one_per_turn_as_the_host_does_share_the_first_chunk() -> None:
    studio = Studio(kept=False)

    async def main() -> None:
        stream, tasks = studio.stream(), []
        for _ in range(4):
            tasks.append(asyncio.create_task(collect(stream.subscribe())))
            await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [[*range(LENGTH)]] * 4

    run(main)
    assert studio.made == [*range(LENGTH)]


def test_only_the_newest_chunk_is_held_and_none_while_the_next_is_made() -> None:
    alive: weakref.WeakSet[Item] = weakref.WeakSet()

    def produce(first: int) -> Iterator[Item]:
        for index in range(first, 50):
            assert len(alive) == 0, "a chunk was held while another was made"
            yield _watched(Item(index), alive)

    async def output(stream: Stream[Item]) -> int:
        count = 0
        async for chunk in stream.subscribe():
            assert len(alive) == 1
            count += 1
            del chunk
        return count

    async def main() -> None:
        stream = Stream(produce)
        assert await asyncio.gather(output(stream), output(stream), output(stream)) == [50] * 3

    run(main)


def _watched(item: Item, alive: weakref.WeakSet[Item]) -> Item:
    alive.add(item)
    return item


def test_the_next_chunk_waits_for_the_slowest_reader() -> None:
    studio = Studio()
    gate = asyncio.Event()

    async def slow(subscription: Subscription[int]) -> None:
        async for chunk in subscription:
            if chunk == 2:
                await gate.wait()

    async def main() -> None:
        stream, seen = studio.stream(), list[int]()
        tasks = [asyncio.create_task(slow(stream.subscribe()))]
        tasks.append(asyncio.create_task(collect(stream.subscribe(), seen)))  # type: ignore[arg-type]
        for _ in range(50):
            await asyncio.sleep(0)
        assert seen[-1] == 3 and studio.made[-1] == 3
        gate.set()
        await asyncio.gather(*tasks)
        assert seen == [*range(LENGTH)]

    run(main)


@pytest.mark.parametrize("kept", [True, False])
def test_a_late_reader_replays_and_then_keeps_step(kept: bool) -> None:
    studio = Studio(kept=kept)

    async def main() -> None:
        stream = studio.stream()
        early = stream.subscribe()
        assert [await anext(early) for _ in range(4)] == [0, 1, 2, 3]
        late = asyncio.create_task(collect(stream.subscribe()))
        rest = asyncio.create_task(collect(early))
        assert await late == [*range(LENGTH)]
        assert await rest == [4, 5]

    run(main)
    assert studio.made.count(4) == studio.made.count(5) == 1
    assert studio.opened == ([0] if kept else [0, 0])


def test_fresh_iterators_read_again_from_the_start() -> None:
    studio = Studio()
    stream = studio.stream(length=LENGTH)
    assert list(stream) == list(stream) == [*range(LENGTH)]
    assert studio.made == [*range(LENGTH)]
    assert studio.opened == [0], "a fully stored stream must not open production"


def test_two_cursors_share_production() -> None:
    studio = Studio(kept=False)
    stream = studio.stream()
    assert [*zip(stream, stream, strict=True)] == [(i, i) for i in range(LENGTH)]
    assert studio.made == [*range(LENGTH)]


def test_an_interrupted_cursor_can_continue_at_the_right_chunk() -> None:
    studio = Studio(kept=False, fails_at={2: Interrupt(), 4: Interrupt()})
    cursor, taken = iter(studio.stream()), list[int]()
    while len(taken) < LENGTH:
        try:
            taken.append(next(cursor))
        except Interrupt:
            continue
    assert taken == [*range(LENGTH)] and studio.opened == [0, 2, 4]
    with pytest.raises(StopIteration):
        next(cursor)


@pytest.mark.parametrize(("first", "expected"), [(0, 6), (4, 2), (6, 0), (9, 0)])
def test_reading_from_a_later_chunk_makes_no_earlier_one(first: int, expected: int) -> None:
    studio = Studio(kept=False)
    taken = list(studio.stream(length=LENGTH).read_from(first))
    assert taken == studio.made == [*range(LENGTH)][LENGTH - expected :]


def test_one_task_reading_two_subscriptions_one_after_the_other_does_not_hang() -> None:
    studio = Studio()

    async def main() -> None:
        stream = studio.stream()
        first, second = stream.subscribe(), stream.subscribe()
        assert await collect(first) == await collect(second) == [*range(LENGTH)]

    run(main)
    assert studio.made == [*range(LENGTH)]


def test_streams_over_a_stream_share_its_chunks() -> None:
    """Two decoders and a latents output wired to one rollout make each chunk once."""
    studio = Studio()
    latents = studio.stream()

    def decode(first: int) -> Iterator[int]:
        yield from latents.read_from(first)

    async def main() -> None:
        outputs = [Stream(decode).subscribe(), Stream(decode).subscribe(), latents.subscribe()]
        assert await asyncio.gather(*map(collect, outputs)) == [[*range(LENGTH)]] * 3

    run(main)
    assert studio.made == [*range(LENGTH)] and studio.opened == [0] and studio.released == 1
