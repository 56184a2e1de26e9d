"""Laws of a stage beside readers of its source: they have a chunk before the stage works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from longtake.stream.lazy.joined import JoinedStream, JoinSteps, NextChunk
from longtake.stream.lazy.mapped import MappedStream, Readable
from longtake.tests.support.stream.joins import from_start
from longtake.tests.support.stream.stream_studio import LENGTH, Interrupt, Studio, run

Stage = Callable[[Readable[int], Callable[[int], int]], Readable[int]]


def joined(source: Readable[int], convert: Callable[[int], int]) -> JoinedStream[int, int]:
    """A stage whose readers share what was made last."""
    newest = [-1]

    def steps() -> JoinSteps[int, int]:
        while (chunk := (yield NextChunk(0))) is not None:
            if newest[0] != chunk:
                newest[0] = convert(chunk)
            yield newest[0]

    return JoinedStream([source], from_start(steps))


class Log:
    """What was made and shown, in order: (what, chunk)."""

    def __init__(self) -> None:
        self.studio, self.entries = Studio(kept=False), list[tuple[str, int]]()
        self.source = self.studio.stream()

    def working(self, name: str) -> Callable[[int], int]:
        """The work of a stage, noted as `name`."""

        def convert(chunk: int) -> int:
            self.entries.append((name, chunk))
            assert self.studio.made == [*range(chunk + 1)], "the next chunk was made already"
            return chunk

        return convert

    async def read(self, name: str, stream: Readable[int]) -> None:
        """Read all, noted as `name`."""
        with stream.subscribe() as reader:  # type: ignore[attr-defined]
            async for chunk in reader:
                self.entries.append((name, chunk))

    def of(self, chunk: int) -> list[str]:
        """What happened with a chunk, in order."""
        return [name for name, number in self.entries if number == chunk]


STAGES = [MappedStream, joined]
KINDS = pytest.mark.parametrize("stage", STAGES)


@KINDS
@pytest.mark.parametrize("order", [*permutations(["saved", "refined", "base"])])
def test_a_chunk_is_shown_before_its_stage_works_whichever_output_began(
    stage: Stage, order: tuple[str, ...]
) -> None:
    log = Log()

    async def main() -> None:
        larger = stage(log.source, log.working("stage"))
        streams = {"saved": larger, "refined": larger, "base": log.source}
        await asyncio.gather(*(log.read(name, streams[name]) for name in order))

    run(main)
    for chunk in range(LENGTH):
        assert log.of(chunk)[:2] == ["base", "stage"] and len(log.of(chunk)) == 4


@pytest.mark.parametrize("first", STAGES)
@pytest.mark.parametrize("second", STAGES)
@pytest.mark.parametrize("order", [*permutations(["second", "first", "base"])])
def test_of_two_stages_the_second_works_when_the_firsts_frames_are_shown(
    first: Stage, second: Stage, order: tuple[str, ...]
) -> None:
    log = Log()

    async def main() -> None:
        larger = first(log.source, log.working("work 1"))
        streams = {"base": log.source, "first": larger}
        streams["second"] = second(larger, log.working("work 2"))
        await asyncio.gather(*(log.read(name, streams[name]) for name in order))

    run(main)
    for chunk in range(LENGTH):
        assert log.of(chunk) == ["base", "work 1", "first", "work 2", "second"]


@KINDS
def test_a_stage_does_not_wait_for_a_reader_that_does_something_else(stage: Stage) -> None:
    """Another reader may wait for what only the stage's reader makes."""
    log = Log()

    async def main() -> None:
        refined = asyncio.Event()

        async def waits_for_the_stage() -> None:
            with log.source.subscribe() as reader:
                await refined.wait()
                async for chunk in reader:
                    log.entries.append(("base", chunk))

        async def reads_the_stage() -> None:
            async for _ in stage(log.source, log.working("stage")).subscribe():  # type: ignore[attr-defined]
                refined.set()

        await asyncio.gather(waits_for_the_stage(), reads_the_stage())

    run(main)
    assert log.of(0) == ["stage", "base"] and log.of(LENGTH - 1) == ["base", "stage"]


@KINDS
def test_an_interrupt_while_the_others_take_a_chunk_comes_before_the_stages_work(
    stage: Stage,
) -> None:
    log = Log()

    async def shows() -> None:
        with log.source.subscribe() as reader:
            async for chunk in reader:
                if chunk == 1:
                    raise Interrupt

    async def main() -> list[Any]:
        larger = stage(log.source, log.working("stage"))
        return await asyncio.gather(log.read("saved", larger), shows(), return_exceptions=True)

    assert [type(end) for end in run(main)] == [Interrupt] * 2  # type: ignore[attr-defined]
    assert log.entries == [("stage", 0), ("saved", 0)]
