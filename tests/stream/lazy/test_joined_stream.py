"""Laws of joined streams: readers stay in step, each chunk is made once, nobody waits for ever,
pictures lie in their places and seams are invisible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from longtake.samplers.loop import Chunk
from longtake.stream.lazy.frame_chunk import FrameChunk
from longtake.stream.lazy.grid import Grid
from longtake.stream.lazy.joined import JoinedStream, JoinSteps, NextChunk
from longtake.stream.lazy.splice import DISPLAY_GAMMA, Method, Splice
from longtake.stream.lazy.stream import Stream
from longtake.tests.support.stream.joins import from_start
from longtake.tests.support.tiny_model import randn


class Shot:
    """A video of `pictures` in chunks of `counts`; records the chunks it made."""

    def __init__(self, pictures: Tensor, counts: list[int]) -> None:
        self.pictures, self.counts, self.made = pictures, counts, list[int]()
        self.stream = Stream(self._open, length=len(counts))

    def _open(self, first: int) -> Iterator[FrameChunk]:
        for index in range(first, len(self.counts)):
            self.made.append(index)
            start = sum(self.counts[:index])
            frames = self.pictures[start : start + self.counts[index]]
            yield FrameChunk(index, start, frames, Chunk(index, 0, randn(1, 1, 1, 1), f"{index}"))


def shot(*counts: int, seed: int = 0) -> Shot:
    pictures = randn(sum(counts), 3, 32, 48, seed=seed).sigmoid()
    return Shot(pictures, list(counts))


def whole(chunks: list[FrameChunk]) -> Tensor:
    """Join all pictures and check that the chunks follow one another."""
    at = 0
    for index, chunk in enumerate(chunks):
        assert (chunk.index, chunk.first_frame) == (index, at)
        at += len(chunk.frames)
    return torch.cat([chunk.frames for chunk in chunks])


def grid(*shots: Shot, columns: int = 2, labels: tuple[str, ...] | None = None) -> JoinedStream:  # type: ignore[type-arg]
    labels = labels or ("",) * len(shots)
    join = Grid(labels, 48, 32, columns).join
    return JoinedStream([shot.stream for shot in shots], from_start(join))


def splice(a: Shot, b: Shot, overlap: int, method: Method = "cross-fade") -> JoinedStream:  # type: ignore[type-arg]
    steps = partial(Splice(overlap, method).join, lambda: None)
    return JoinedStream([a.stream, b.stream], from_start(steps), at_once=False)


def test_shots_are_shown_side_by_side_whatever_their_chunks() -> None:
    a, b = shot(9, 12), shot(5, 9, 7, seed=1)
    chunks = list(grid(a, b))
    assert [len(chunk.frames) for chunk in chunks] == [5, 4, 5, 7]
    made = whole(chunks)
    assert torch.equal(made[..., :48], a.pictures) and torch.equal(made[..., 48:], b.pictures)


@pytest.mark.parametrize("empty", [0, 1])
def test_a_shot_without_pictures_is_black_beside_the_others(empty: int) -> None:
    """A dry run makes none, nor does a run that was stopped before its first chunk."""
    shots = [shot(5, 4), shot(5, 4)]
    shots[empty] = shot()
    made = whole(list(grid(*shots)))
    left, right = made[..., :48], made[..., 48:]
    assert not (left, right)[empty].any()
    assert torch.equal((right, left)[empty], shots[1 - empty].pictures)


def test_an_ended_shot_stands_still() -> None:
    a, b, c = shot(3), shot(9, seed=1), shot(6, seed=2)
    made = whole(list(grid(a, b, c)))
    assert made.shape == (9, 3, 64, 96)
    assert torch.equal(made[3:, :, :32, :48], a.pictures[-1:].expand(6, -1, -1, -1))
    assert torch.equal(made[:6, :, 32:, :48], c.pictures) and not made[:, :, 32:, 48:].any()


def test_shots_are_shown_at_the_first_ones_size() -> None:
    a, b = shot(2), Shot(torch.full((2, 3, 64, 96), 0.25), [2])
    made = whole(list(grid(a, b)))
    assert made.shape == (2, 3, 32, 96) and made[..., 48:].allclose(torch.tensor(0.25))


def test_a_label_is_drawn_in_its_own_picture_only() -> None:
    a, b = Shot(torch.full((1, 3, 32, 48), 0.5), [1]), shot(1)
    made = whole(list(grid(a, b, labels=("A", ""))))
    assert made[..., :48].max() > 0.6 and made[..., :48].min() < 0.3
    assert made[0, :, 20:, :48].eq(0.5).all() and torch.equal(made[..., 48:], b.pictures)


@pytest.mark.parametrize("text", ["A", "fork gypq"])
def test_no_letter_of_a_label_touches_its_edge(text: str) -> None:
    """The ground covers a margin around them, so that a label is read on any picture."""
    made = grid(Shot(torch.ones(1, 3, 32, 48), [1]), shot(1), labels=(text, ""))
    picture = whole(list(made))[0, 0, :, :48]  # white but for the label's ground
    high, wide = (int(side.sum()) for side in ((picture < 1).any(1), (picture < 1).any(0)))
    ground = picture[:high, :wide]
    edges = ground[0], ground[-1], ground[:, 0], ground[:, -1]
    assert all(edge.max() < 0.5 for edge in edges if len(edge) < 48)
    assert ground.max() > 0.7


def test_a_comparison_is_at_the_latents_of_its_first_shot() -> None:
    """Also in chunks that end where a chunk of another shot does."""
    chunks = list(grid(shot(4, 4), shot(2, 2, 2, 2, seed=1)))
    assert [len(chunk.frames) for chunk in chunks] == [2, 2, 2, 2]
    assert [chunk.prompt for chunk in chunks] == ["0", "0", "1", "1"]


async def taken(stream: JoinedStream, others: list[Stream]) -> list[list[int]]:  # type: ignore[type-arg]
    """Read `stream` twice and the others once, in step; return who got which frame when."""
    order: list[list[int]] = []

    async def read(number: int, source: object) -> None:
        with source.subscribe() as reader:  # type: ignore[attr-defined]
            async for chunk in reader:
                order.append([number, chunk.index])

    await asyncio.gather(*(read(n, s) for n, s in enumerate([stream, stream, *others])))
    return order


def test_readers_of_a_comparison_and_of_its_shots_advance_together() -> None:
    a, b = shot(3, 3, 3), shot(3, 3, 3, seed=1)
    order = asyncio.run(taken(grid(a, b), [a.stream, b.stream]))
    assert a.made == b.made == [0, 1, 2]  # once for all four
    assert sorted(order[:4]) == [[number, 0] for number in range(4)]


@pytest.mark.parametrize("outputs", [2, 3])
def test_outputs_of_a_comparison_with_a_later_version_of_a_shot_do_not_wait_for_each_other(
    outputs: int,
) -> None:
    """The stage needs three chunks for its first one, so it reads ahead of the comparison."""
    a = shot(3, 3, 3, 3)

    def later() -> JoinSteps[FrameChunk, FrameChunk]:
        waiting = [(yield NextChunk(0)), (yield NextChunk(0))]
        while (chunk := waiting[0]) is not None:
            waiting = [*waiting[1:], (yield NextChunk(0))]
            yield chunk

    stage = JoinedStream([a.stream], from_start(later))
    join = Grid(("", ""), 48, 32, 2).join
    both = JoinedStream([a.stream, stage], from_start(join))

    async def main() -> None:
        reading = (taken(both, [a.stream]) for _ in range(outputs - 1))
        for order in await asyncio.wait_for(asyncio.gather(*reading), 20):
            assert [index for number, index in order if number == 0] == [0, 1, 2, 3]

    asyncio.run(main())


def test_comparisons_that_lead_in_two_shots_do_not_wait_for_each_other() -> None:
    """One waits in shot b for what holds back the other one in shot a."""
    a, b = shot(3, 3, 3, 3), shot(3, 3, 3, 3, seed=1)

    def leads(number: int) -> JoinSteps[FrameChunk, FrameChunk]:
        """Take two chunks of the shot `number` before the first of the other one."""
        yield NextChunk(number)
        while (chunk := (yield NextChunk(number))) is not None:
            yield NextChunk(1 - number)
            yield chunk

    streams = [a.stream, b.stream]
    led = [JoinedStream(streams, from_start(partial(leads, number))) for number in (0, 1)]

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(*(taken(each, []) for each in led)), 20)

    asyncio.run(main())


def loop(shot: Shot, overlap: int, method: Method = "cross-fade") -> list[FrameChunk]:
    steps = Splice(overlap, method).join_ends
    return list(JoinedStream([shot.stream], from_start(steps)))


def test_the_end_of_a_loop_leads_to_the_picture_with_which_it_begins() -> None:
    a = shot(5, 4, 7)
    chunks = loop(a, 3)
    made = whole(chunks)
    assert [len(chunk.frames) for chunk in chunks] == [3, 7, 3] and [c.prompt for c in chunks] == [
        "1", "2", "2"]  # fmt: skip
    assert torch.equal(made[:10], a.pictures[3:13])
    assert torch.equal(made[10:], Splice(3).blend(a.pictures[13:], a.pictures[:3]))


def test_a_loop_that_is_cut_switches_where_its_ends_are_most_alike() -> None:
    a = shot(6, 6)
    a.pictures[9] = a.pictures[2]
    made = whole(loop(a, 4, "best cut"))
    assert torch.equal(made, torch.cat([a.pictures[4:10], a.pictures[2:4]]))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6, 7])
def test_a_loop_that_was_stopped_early_still_repeats(count: int) -> None:
    """Its ends then share half of its pictures."""
    chunks = loop(a := shot(*[1] * count), 3)
    shared = min(3, count // 2)
    assert sum(len(chunk.frames) for chunk in chunks) == count - shared
    if count:
        ends = Splice(3).blend(a.pictures[count - shared :], a.pictures[:shared])
        assert torch.equal(whole(chunks), torch.cat([a.pictures[shared : count - shared], ends]))


def test_a_splice_does_not_delay_readers_of_the_second_shot() -> None:
    a, b = shot(3, 3), shot(3, 3, seed=1)
    order = asyncio.run(taken(splice(a, b, 2), [b.stream]))
    assert [index for number, index in order if number == 2] == [0, 1]
    assert [index for number, index in order if number == 0] == [0, 1, 2, 3]


def test_an_interrupt_ends_the_readers_of_every_source() -> None:
    class Interrupt(BaseException):
        """A host's interrupt."""

    a, b = shot(3, 3, 3), shot(3, 3, 3, seed=1)

    async def main() -> None:
        ended = asyncio.Event()

        async def other() -> None:
            with pytest.raises(Interrupt):
                async for _ in b.stream.subscribe():
                    pass
            ended.set()

        waiting = asyncio.ensure_future(other())
        with pytest.raises(Interrupt), grid(a, b).subscribe() as reader:
            async for _ in reader:
                raise Interrupt
        await asyncio.wait_for(waiting, 60)
        assert ended.is_set()

    asyncio.run(main())


def test_reading_from_the_middle_gives_the_same() -> None:
    a, b = shot(9, 12), shot(5, 9, 7, seed=1)
    stream = grid(a, b)
    later = list(stream.read_from(2))
    assert [chunk.index for chunk in later] == [2, 3]
    assert torch.equal(later[0].frames, list(stream)[2].frames)


@pytest.mark.parametrize("counts", [([9, 12], [9, 3]), ([2, 2, 2, 2], [1, 1, 1, 1, 1, 1])])
@pytest.mark.parametrize("overlap", [0, 1, 5])
def test_a_cross_fade_is_the_sum_of_both_lights(
    counts: tuple[list[int], list[int]], overlap: int
) -> None:
    a, b = shot(*counts[0]), shot(*counts[1], seed=1)
    made = whole(list(splice(a, b, overlap)))
    ends = len(a.pictures) - overlap
    assert len(made) == ends + len(b.pictures)
    assert torch.equal(made[:ends], a.pictures[:ends])
    assert torch.equal(made[len(a.pictures) :], b.pictures[overlap:])
    for k in range(overlap):
        share = (k + 1) / (overlap + 1)
        light = a.pictures[ends + k] ** DISPLAY_GAMMA * (1 - share)
        light += b.pictures[k] ** DISPLAY_GAMMA * share
        assert made[ends + k].allclose(light ** (1 / DISPLAY_GAMMA), atol=1e-5)


def test_a_fade_between_equal_pictures_changes_nothing() -> None:
    still = torch.full((8, 3, 32, 48), 0.5)
    made = whole(list(splice(Shot(still, [8]), Shot(still, [8]), 6)))
    assert made.allclose(torch.tensor(0.5), atol=1e-6)


def test_the_best_cut_is_where_pictures_are_most_alike() -> None:
    a, b = shot(8), shot(8, seed=1)
    b.pictures[4] = a.pictures[5]  # tail [2..7] and head [0..5]: tail[3] then head[4] are equal
    made = whole(list(splice(a, b, 6, "best cut")))
    assert torch.equal(made[:6], a.pictures[:6]) and torch.equal(made[6:], b.pictures[4:])


def test_a_second_shot_shorter_than_the_overlap_ends_the_first() -> None:
    a, b = shot(8), shot(2, seed=1)
    made = whole(list(splice(a, b, 5)))
    assert len(made) == 8 and torch.equal(made[:6], a.pictures[:6])
    assert not torch.equal(made[6:], a.pictures[6:])


def test_a_recipe_that_fails_releases_the_other_readers() -> None:
    a, b = shot(3, 3), shot(3, 3, seed=1)

    def broken() -> JoinSteps[FrameChunk, FrameChunk]:
        yield NextChunk(0)
        raise RuntimeError("out of ideas")

    async def main() -> list[int]:
        stream = JoinedStream([a.stream, b.stream], from_start(broken))

        async def fail() -> None:
            with pytest.raises(RuntimeError, match="out of ideas"):
                async for _ in stream.subscribe():
                    pass

        async def read() -> list[int]:
            return [chunk.index async for chunk in b.stream.subscribe()]

        return (await asyncio.gather(fail(), read()))[1]

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [0, 1]
