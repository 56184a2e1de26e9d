"""Laws of streams: in step, constant memory, nothing lost or doubled, nobody left hanging."""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.stream.stream import Stream, Subscription

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


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_readers_side_by_side_advance_together_and_each_chunk_is_made_once(readers: int) -> None:
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


def _watched(item: Item, alive: "weakref.WeakSet[Item]") -> Item:
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


@pytest.mark.parametrize("leave", ["close", "fail", "cancel", "drop"])
def test_a_reader_that_leaves_releases_the_others(leave: str) -> None:
    studio = Studio(kept=False)

    async def leaver(subscription: Subscription[int]) -> None:
        async for chunk in subscription:
            if chunk == 2:
                if leave == "close":
                    subscription.close()
                elif leave == "fail":
                    raise OSError("disk full")
                elif leave == "drop":
                    break
                else:
                    await asyncio.sleep(60)
        del subscription
        await asyncio.sleep(0 if leave == "cancel" else 0.02)

    async def main() -> None:
        stream = studio.stream()
        leaving = asyncio.create_task(leaver(stream.subscribe()))
        staying = asyncio.create_task(collect(stream.subscribe()))
        if leave == "cancel":
            await asyncio.sleep(0.02)
            leaving.cancel()
        assert await staying == [*range(LENGTH)]
        await asyncio.gather(leaving, return_exceptions=True)

    run(main)
    assert studio.made == [*range(LENGTH)]


@pytest.mark.parametrize("error", [ValueError("non-finite"), Interrupt()])
def test_a_production_error_reaches_every_reader_and_the_next_run_goes_on(
    error: BaseException,
) -> None:
    studio = Studio(fails_at={3: error})
    stream = studio.stream()

    async def failing() -> None:
        logs: list[list[int]] = [[], [], []]
        outputs = (collect(stream.subscribe(), log) for log in logs)
        results = await asyncio.gather(*map(_outcome, outputs))
        assert results == [error] * 3 and logs == [[0, 1, 2]] * 3

    async def again() -> None:
        assert (
            await asyncio.gather(collect(stream.subscribe()), collect(stream.subscribe()))
            == [[*range(LENGTH)]] * 2
        )

    run(failing)
    assert studio.released == 1
    run(again)
    assert studio.opened == [0, 3] and studio.made == [*range(LENGTH)]


@pytest.mark.parametrize(
    ("error", "rest"), [(Interrupt(), Interrupt), (OSError("disk full"), type(None))]
)
def test_an_interrupt_that_one_reader_meets_ends_all_at_once_and_a_failure_only_its_own(
    error: BaseException, rest: type
) -> None:
    studio = Studio()
    stream = studio.stream()

    async def meets() -> None:
        with stream.subscribe() as reader:
            async for chunk in reader:
                if chunk == 2:
                    raise error

    async def main() -> None:
        outputs = [collect(stream.subscribe()), meets(), collect(stream.subscribe())]
        results = await asyncio.gather(*map(_outcome, outputs))
        assert [type(result) for result in results] == [rest, type(error), rest]

    run(main)
    assert studio.made == [*range(3 if rest is Interrupt else LENGTH)] and studio.released == 1


async def _outcome(output: object) -> BaseException | None:
    try:
        await output  # type: ignore[misc]
    except (Exception, Interrupt) as error:
        return error
    return None


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


def test_an_interrupted_cursor_may_go_on_itself_and_is_then_at_the_right_chunk() -> None:
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
def test_reading_from_a_later_chunk_makes_nothing_before_it(first: int, expected: int) -> None:
    studio = Studio(kept=False)
    taken = list(studio.stream(length=LENGTH).read_from(first))
    assert taken == studio.made == [*range(LENGTH)][LENGTH - expected :]


def test_production_is_released_with_its_last_reader() -> None:
    studio = Studio()
    stream = studio.stream()
    first, second = iter(stream), iter(stream)
    next(first), next(second)
    del first
    assert studio.released == 0
    del second
    assert studio.released == 1


def test_a_failed_production_leaves_no_cycle_that_keeps_its_memory() -> None:
    watched: list[weakref.ref[Item]] = []

    def produce(first: int) -> Iterator[Item]:
        cache = Item(first)
        watched.append(weakref.ref(cache))
        yield Item(first)
        raise Interrupt

    async def read(stream: Stream[Item]) -> None:
        async for _ in stream.subscribe():
            pass

    async def main(stream: Stream[Item]) -> None:
        await asyncio.gather(_outcome(read(stream)), _outcome(read(stream)))

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main(Stream(produce)))
        assert watched[0]() is None
    finally:
        gc.enable()


def test_one_task_reading_two_subscriptions_one_after_the_other_does_not_hang() -> None:
    studio = Studio()

    async def main() -> None:
        stream = studio.stream()
        first, second = stream.subscribe(), stream.subscribe()
        assert await collect(first) == await collect(second) == [*range(LENGTH)]

    run(main)
    assert studio.made == [*range(LENGTH)]


def test_a_stream_over_a_stream_shares_what_is_below() -> None:
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


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    readers=st.integers(1, 4),
    kept=st.booleans(),
    interrupts=st.sets(st.integers(0, LENGTH - 1), max_size=2),
)
def test_nothing_is_lost_or_doubled_under_random_interleavings(
    seed: int, readers: int, kept: bool, interrupts: set[int]
) -> None:
    """Readers that come late, dawdle and leave early, over production that is interrupted."""
    choose = random.Random(seed)
    studio = Studio(kept=kept, fails_at={index: Interrupt() for index in interrupts})
    stream = studio.stream(length=choose.choice([None, LENGTH]))

    async def main() -> None:
        await asyncio.gather(*(insistent_reader(stream, choose) for _ in range(readers)))

    run(main)
    if kept:
        assert studio.made == [*range(len(studio.made))], "a stored chunk was made again"


async def insistent_reader(stream: Stream[int], choose: random.Random) -> None:
    """Read, again after every interrupt, and check what was taken."""
    while True:
        try:
            taken, to_the_end = await capricious_reader(stream, choose)
        except Interrupt:
            continue
        assert taken == [*range(LENGTH if to_the_end else len(taken))]
        return


async def capricious_reader(stream: Stream[int], choose: random.Random) -> tuple[list[int], bool]:
    """What was taken, and whether that was to the end."""
    await idle(choose.randrange(12))
    taken, leaves_after = list[int](), choose.randrange(1, 2 * LENGTH)
    async for chunk in stream.subscribe():
        taken.append(chunk)
        if len(taken) == leaves_after:
            return taken, False
        await idle(choose.randrange(3))
    return taken, True


async def idle(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
