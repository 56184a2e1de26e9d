"""Laws of streams whose readers leave or whose production fails: no reader hangs."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from longtake.errors import StorageError
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
def test_a_production_error_reaches_every_reader_and_the_next_run_continues(
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
def test_an_interrupt_in_a_reader_ends_all_and_a_failure_only_that_reader(
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


@pytest.mark.filterwarnings("error")
def test_a_disk_that_fails_as_the_last_reader_leaves_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A chunk is synced while the next one is made; Python would print a traceback."""

    def produce(first: int) -> Iterator[int]:
        try:
            yield first
        finally:
            raise StorageError("The journal could not store a chunk; free some space.")

    assert next(iter(Stream(produce))) == 0
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == [
        "The journal could not store a chunk; free some space."
    ]
