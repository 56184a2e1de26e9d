"""Streams under random interleavings: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.stream.lazy.joined import JoinedStream, JoinSteps, NextChunk
from longtake.stream.lazy.mapped import ClosableReader, MappedStream, Readable
from longtake.tests.support.stream.joins import from_start
from longtake.tests.support.stream.stream_studio import LENGTH, Interrupt, Studio, run


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    readers=st.integers(1, 4),
    kept=st.booleans(),
    interrupts=st.sets(st.integers(0, LENGTH - 1), max_size=2),
)
def test_nothing_is_lost_or_doubled_under_random_interleavings(
    seed: int, readers: int, kept: bool, interrupts: set[int]
) -> None:
    """Readers join late, are slow and leave early, while production is interrupted."""
    choose = random.Random(seed)
    studio = Studio(kept=kept, fails_at={index: Interrupt() for index in interrupts})
    stream = studio.stream(length=choose.choice([None, LENGTH]))

    async def main() -> None:
        await asyncio.gather(*(insistent_reader(stream, choose) for _ in range(readers)))

    run(main)
    if kept:
        assert studio.made == [*range(len(studio.made))], "a stored chunk was made again"


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    kinds=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    kept=st.booleans(),
)
def test_readers_of_a_source_and_of_its_stages_never_wait_for_each_other(
    seed: int, kinds: list[int], kept: bool
) -> None:
    choose = random.Random(seed)
    studio = Studio(kept=kept)
    source = studio.stream()
    larger, finer = MappedStream(source, int), joined(source)
    streams = [source, larger, finer, MappedStream(finer, int), joined(source, larger)]

    async def main() -> None:
        await asyncio.gather(*(insistent_reader(streams[kind], choose) for kind in kinds))

    run(main)


def joined(*sources: Readable[int]) -> JoinedStream[int, int]:
    """The chunks of the last source, which read those of all."""

    def steps() -> JoinSteps[int, int]:
        while True:
            chunks = list[int | None]()
            for number in range(len(sources)):
                chunks.append((yield NextChunk(number)))
            if chunks[-1] is None:
                return
            yield chunks[-1]

    return JoinedStream(sources, from_start(steps))


async def insistent_reader(stream: Readable[int], choose: random.Random) -> None:
    """Read, start again after every interrupt, and check the chunks."""
    while True:
        try:
            taken, to_the_end = await capricious_reader(stream, choose)
        except Interrupt:
            continue
        assert taken == [*range(LENGTH if to_the_end else len(taken))]
        return


async def capricious_reader(stream: Readable[int], choose: random.Random) -> tuple[list[int], bool]:
    """Return the chunks taken and whether the end was reached."""
    await idle(choose.randrange(12))
    taken, leaves_after = list[int](), choose.randrange(1, 2 * LENGTH)
    reader = stream.subscribe()
    while (chunk := await next_of(reader)) is not None:
        taken.append(chunk)
        if len(taken) == leaves_after:
            return taken, False
        await idle(choose.randrange(3))
    return taken, True


async def next_of(reader: ClosableReader[int]) -> int | None:
    try:
        return await reader.__anext__()
    except StopAsyncIteration:
        return None


async def idle(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
