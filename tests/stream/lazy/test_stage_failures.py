"""Laws of a stage that fails: who reads its source without it gets everything, and nobody hangs."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from longtake.stream.lazy.joined import JoinedStream, JoinSteps, NextChunk
from longtake.stream.lazy.mapped import MappedStream
from longtake.stream.lazy.stream import Stream
from longtake.tests.support.stream.joins import from_start
from longtake.tests.support.stream.stream_studio import (
    LENGTH,
    Interrupt,
    Item,
    Studio,
    collect,
    run,
)

FAILS_AT = 2
Stage = Callable[[Any], Any]


class Broken(Exception):
    """What a stage raises."""


def mapped(source: Stream[int], convert: Callable[[int], int]) -> MappedStream[int, int]:
    return MappedStream(source, convert)


def joined(source: Stream[int], convert: Callable[[int], int]) -> JoinedStream[int, int]:
    def steps() -> JoinSteps[int, int]:
        while (chunk := (yield NextChunk(0))) is not None:
            yield convert(chunk)

    return JoinedStream([source], from_start(steps))


KINDS = pytest.mark.parametrize("stage", [mapped, joined])


def breaks(chunk: int) -> int:
    if chunk == FAILS_AT:
        raise Broken
    return chunk


async def broken(stream: Any, log: list[Any]) -> None:
    """Read a stage that fails."""
    with pytest.raises(Broken), stream.subscribe() as reader:
        await collect(reader, log)
    log.append("failed")


@KINDS
@pytest.mark.parametrize("stage_first", [True, False])
def test_a_reader_of_the_source_gets_all_and_then_the_stages_reader_fails(
    stage: Stage, stage_first: bool
) -> None:
    studio, log = Studio(kept=False), list[Any]()

    async def main() -> None:
        source = studio.stream()
        readers = [broken(stage(source, breaks), log), collect(source.subscribe(), log)]
        await asyncio.gather(*(readers if stage_first else readers[::-1]))

    run(main)
    assert sorted(log[:-1]) == sorted([*range(LENGTH), *range(FAILS_AT)]) and log[-1] == "failed"
    assert studio.made == [*range(LENGTH)] and studio.released == 1


@KINDS
def test_alone_it_fails_at_once_and_nothing_more_is_made(stage: Stage) -> None:
    studio, log = Studio(kept=False), list[Any]()
    run(lambda: broken(stage(studio.stream(), breaks), log))
    assert studio.made == [*range(FAILS_AT + 1)] and log == [*range(FAILS_AT), "failed"]


@KINDS
def test_readers_of_failed_stages_do_not_wait_for_one_another(stage: Stage) -> None:
    studio, log = Studio(kept=False), list[Any]()

    async def main() -> None:
        source = studio.stream()
        failing = stage(source, breaks)
        others = (mapped(source, breaks), joined(source, breaks), failing, failing)
        await asyncio.gather(*(broken(stream, log) for stream in others))

    run(main)
    assert studio.made == [*range(FAILS_AT + 1)] and log.count("failed") == 4


@KINDS
def test_a_stage_does_not_wait_for_the_task_that_reads_it(stage: Stage) -> None:
    """A comparison reads the source and the stage in one task."""

    def side_by_side() -> JoinSteps[int, int]:
        while (chunk := (yield NextChunk(0))) is not None:
            yield chunk
            yield NextChunk(1)

    studio, log = Studio(kept=False), list[Any]()
    source = studio.stream()
    both = JoinedStream([source, stage(source, breaks)], from_start(side_by_side))
    run(lambda: broken(both, log))
    assert log[-1] == "failed"


def test_two_comparisons_of_the_same_shots_do_not_wait_for_each_other() -> None:
    """The one that fails must not hold back the second shot while it waits for the first one."""

    def pairs(convert: Callable[[int], int]) -> JoinedStream[int, int]:
        def steps() -> JoinSteps[int, int]:
            while (chunk := (yield NextChunk(0))) is not None:
                if chunk == FAILS_AT:
                    convert(chunk)
                yield chunk
                yield NextChunk(1)

        return JoinedStream(shots, from_start(steps))

    studios, log = [Studio(kept=False), Studio(kept=False)], list[Any]()
    shots = [studio.stream() for studio in studios]

    async def main() -> None:
        await asyncio.gather(broken(pairs(breaks), log), collect(pairs(int).subscribe(), log))

    run(main)
    assert log[-1] == "failed" and [len(studio.made) for studio in studios] == [LENGTH, LENGTH]


def test_a_reader_that_a_failed_stage_held_back_goes_on() -> None:
    """The stage has read nothing of the second source, so that source's reader waits for it."""

    def first_only() -> JoinSteps[int, int]:
        while (chunk := (yield NextChunk(0))) is not None:
            yield breaks(chunk)

    studios, log = [Studio(kept=False), Studio(kept=False)], list[Any]()
    first, second = [studio.stream() for studio in studios]
    stage = JoinedStream([first, second], from_start(first_only))

    async def main() -> None:
        await asyncio.gather(broken(stage, log), collect(second.subscribe()))

    run(main)
    assert log == [*range(FAILS_AT), "failed"] and len(studios[1].made) == LENGTH


@KINDS
def test_a_failure_of_the_source_ends_all_at_once(stage: Stage) -> None:
    studio, log = Studio(kept=False, fails_at={3: Broken()}), list[Any]()

    async def main() -> None:
        source = studio.stream()
        await asyncio.gather(broken(stage(source, int), log), broken(source, log))

    run(main)
    assert studio.made == [0, 1, 2] and log.count("failed") == 2


@KINDS
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_interrupt_within_a_stage_ends_every_reader_at_once(stage: Stage, place: int) -> None:
    """The host raises it once: in the reader that converts, wherever it stands."""
    studio, raised = Studio(kept=False), list[int]()

    def cancelled(chunk: int) -> int:
        if chunk == FAILS_AT and not raised:
            raised.append(chunk)
            raise Interrupt
        return chunk

    async def read(stream: Any) -> None:
        with stream.subscribe() as reader:
            await collect(reader)

    async def main() -> list[Any]:
        source = studio.stream()
        larger = stage(source, cancelled)
        readers = [larger, larger]
        readers.insert(place, source)
        return await asyncio.gather(*map(read, readers), return_exceptions=True)

    assert [type(end) for end in run(main)] == [Interrupt] * 3  # type: ignore[attr-defined]
    assert studio.made == [*range(FAILS_AT + 1)] and studio.released == 1


@KINDS
@pytest.mark.parametrize("end", ["cancel", "interrupt"])
def test_who_waits_for_the_others_can_be_ended(stage: Stage, end: str) -> None:
    studio = Studio(kept=False, fails_at={4: Interrupt()} if end == "interrupt" else None)

    async def slow(source: Stream[int]) -> None:
        with source.subscribe() as reader:
            async for _ in reader:
                await asyncio.sleep(0.01)

    async def main() -> list[Any]:
        source = studio.stream()
        waiting = asyncio.create_task(collect(stage(source, breaks).subscribe()))
        reading = asyncio.create_task(slow(source))
        if end == "cancel":
            while len(studio.made) < FAILS_AT + 3:
                await asyncio.sleep(0)
            waiting.cancel()
        return await asyncio.gather(waiting, reading, return_exceptions=True)

    waited, read = run(main)  # type: ignore[misc]
    if end == "cancel":
        assert isinstance(waited, asyncio.CancelledError) and read is None
        assert studio.made == [*range(LENGTH)]
    else:
        assert isinstance(waited, Broken) and isinstance(read, Interrupt)


@KINDS
def test_what_a_failed_stage_held_is_free_while_it_waits(stage: Stage) -> None:
    held: list[weakref.ref[Item]] = []
    alive: list[bool] = []

    def fill(chunk: int) -> int:
        item = Item(chunk)
        held.append(weakref.ref(item))
        return breaks(item.index)

    async def main() -> None:
        source = Studio(kept=False).stream()

        async def watch() -> None:
            with source.subscribe() as reader:
                async for chunk in reader:
                    if chunk > FAILS_AT:
                        alive.append(any(item() is not None for item in held))

        await asyncio.gather(broken(stage(source, fill), []), watch())

    run(main)
    assert alive == [False] * (LENGTH - FAILS_AT - 1)
