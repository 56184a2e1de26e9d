"""Compare and Splice Rollouts after Cancel: Run goes on with what is missing, in the same file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.unfinished_video import (
    COMPARE,
    SPLICE,
    at_chunk,
    cancelled,
    join,
    pictures,
    pieces,
    save,
)

BOTH = pytest.mark.parametrize("node", [SPLICE, COMPARE])


def joined(
    bench: Bench, node: str, lengths: tuple[float, float] = (33.0, 45.0), **inputs: Any
) -> Any:
    """Two shots as one video; every call opens them anew, as another run does."""
    shots = [bench.frames(length=length, seed=seed) for seed, length in enumerate(lengths)]
    return join(bench, node, *shots, **inputs)


@BOTH
@pytest.mark.parametrize("chunks", [2, 4, 5, 6])
def test_a_cancelled_video_goes_on_and_is_that_of_an_unbroken_run(
    bench: Bench, node: str, chunks: int
) -> None:
    """In the first shot, around the seam, and in the second one."""
    cancelled(bench, joined(bench, node), chunks)
    assert pieces(bench) > 0
    video = save(bench, joined(bench, node))
    assert video.name == "clip_00001_.mkv" and not pieces(bench)
    whole = save(bench, joined(bench, node))
    assert whole.name == "clip_00002_.mkv"
    assert len(pictures(video)) == (45 if node == COMPARE else 33 + 45 - 8)
    assert all(map(np.array_equal, pictures(video), pictures(whole)))


@BOTH
def test_the_preview_goes_on_from_its_frames(bench: Bench, node: str) -> None:
    from longtake.nodes.runtime.session import session

    for is_whole in (False, True):
        frames = joined(bench, node)
        show = ("LongtakePreview", {"frames": frames})
        if is_whole:
            save(bench, frames, show)
        else:
            cancelled(bench, frames, 5, show)
    *_, take = session.takes._takes.values()
    take.join()
    assert take.first_new > 0 and take.summary()["frames"] == frames.frame_total


@pytest.mark.parametrize("lengths", [(33.0, 33.0), (9.0, 57.0), (57.0, 9.0), (21.0, 1.0)])
@pytest.mark.parametrize(
    ("node", "inputs"), [(COMPARE, {}), *((SPLICE, {"overlap": n}) for n in (0, 1, 8, 9, 10, 40))]
)
def test_what_a_piece_is_made_of_is_known_before_it_is_made(
    bench: Bench, node: str, lengths: tuple[float, float], inputs: dict[str, Any]
) -> None:
    frames = joined(bench, node, lengths, **inputs)
    keys = [frames.content_key(index) for index in range(12)]
    made = list(frames.chunks)
    assert frames._unplanned == {}
    assert keys == [frames.content_key(index) for index in range(12)]
    assert None not in keys[: len(made)] and len({*keys[: len(made)]}) == len(made)
    assert {*keys[len(made) :]} == {None}


def test_pictures_beside_a_shot_have_pieces_too(bench: Bench) -> None:
    images = torch.rand(40, 32, 32, 3)
    for node in (SPLICE, COMPARE):
        shot = bench.frames(length=45.0)
        for both in (join(bench, node, images, shot), join(bench, node, shot, images)):
            made = list(both.chunks)
            assert both._unplanned == {} and both.content_key(len(made) - 1) is not None


@BOTH
def test_another_part_or_setting_begins_another_file(bench: Bench, node: str) -> None:
    settings: list[dict[str, Any]]
    settings = [{"overlap": 9}, {"method": "best cut"}] if node == SPLICE else [
        {"labels": "one\ntwo"}, {"layout": "column"}]  # fmt: skip
    cancelled(bench, joined(bench, node), 6)
    frames = joined(bench, node)
    key = frames.content_key(0)
    shots = frames.sources
    assert join(bench, node, *shots).content_key(0) == key is not None
    for inputs in settings:
        assert joined(bench, node, **inputs).content_key(0) != key
    assert join(bench, node, *shots[::-1]).content_key(0) != key
    others = join(bench, node, shots[0], bench.frames(length=45.0, seed=7))
    last = 4 if node == SPLICE else 0
    assert others.content_key(last) not in (None, frames.content_key(last))
    assert save(bench, others).name == "clip_00002_.mkv"


def test_the_first_shot_may_have_been_made_longer(bench: Bench) -> None:
    """What both have from it is the same; the seam is another one."""
    shorter, longer = (joined(bench, SPLICE, (length, 45.0)) for length in (33.0, 45.0))
    keys = [[frames.content_key(index) for index in range(4)] for frames in (shorter, longer)]
    assert keys[0][:2] == keys[1][:2] and keys[0][3] != keys[1][3]


def test_a_stop_of_one_shot_is_in_the_keys_of_what_follows(bench: Bench) -> None:
    """The stop is forgotten by the next run, whose pieces are others."""
    frames = joined(bench, SPLICE, (57.0, 45.0))
    at_chunk(bench, 3, lambda: frames.sources[0].controls.stop())
    cancelled(bench, frames, 4)
    assert pieces(bench) == 4 and frames._unplanned, "three of the first, and the seam"
    video = save(bench, joined(bench, SPLICE, (57.0, 45.0)))
    whole = save(bench, joined(bench, SPLICE, (57.0, 45.0)))
    assert [path.name for path in (video, whole)] == ["clip_00002_.mkv", "clip_00003_.mkv"]
    assert all(map(np.array_equal, pictures(video), pictures(whole)))


@pytest.mark.parametrize("shown", [False, True])
def test_a_stop_before_the_place_where_a_file_goes_on_adds_nothing_else_to_it(
    bench: Bench, shown: bool
) -> None:
    """Not the second shot where the file has more of the first one; also beside a new preview."""
    cancelled(bench, joined(bench, SPLICE, (57.0, 45.0)), 4)
    count = pieces(bench)
    frames = joined(bench, SPLICE, (57.0, 45.0))
    at_chunk(bench, 1, lambda: frames.sources[0].controls.stop())
    more = [("LongtakePreview", {"frames": frames})] if shown else []
    video = save(bench, frames, *more)
    assert video.name == "clip_00001_.mkv"
    bench.state.start_prompt()
    whole = pictures(save(bench, joined(bench, SPLICE, (57.0, 45.0))))
    kept = pictures(video)
    assert count > 1 and len(kept) == 9 + 12 * (count - 1) - 8
    assert all(map(np.array_equal, kept, whole))


@pytest.mark.parametrize("early", [1, 2])
def test_interpolation_behind_a_splice_adds_nothing_after_such_a_stop_either(
    bench: Bench, early: int
) -> None:
    """Its reader begins one chunk earlier."""
    cancelled(bench, smooth(joined(bench, SPLICE, (57.0, 45.0))), 4)
    count = pieces(bench)
    frames = joined(bench, SPLICE, (57.0, 45.0))
    at_chunk(bench, count - early, lambda: frames.sources[0].controls.stop())
    video = save(bench, smooth(frames))
    assert video.name == "clip_00001_.mkv" and count == 4
    bench.state.start_prompt()
    whole = pictures(save(bench, smooth(joined(bench, SPLICE, (57.0, 45.0)))))
    kept = pictures(video)
    assert len(kept) == 2 * (9 + 12 * (count - 1) - 8) - 1
    assert all(map(np.array_equal, kept, whole))


def smooth(frames: Any) -> Any:
    """The frames at twice their rate; each is shown twice."""
    from longtake.nodes.frames.interpolate import InterpolatedFrames

    def between(shown: torch.Tensor) -> torch.Tensor:
        return shown.repeat_interleave(2, 0)[:-1]

    return InterpolatedFrames(frames, between, 2, SimpleNamespace(model=torch.nn.LayerNorm(1)))


def test_edits_spare_what_the_file_has(bench: Bench) -> None:
    frames = joined(bench, SPLICE, (33.0, 45.0))
    frames.hold_edits(0)
    frames.hold_edits(3)
    queues = [source.controls.edit_queue for source in frames.sources]
    assert [queue.is_early(2) for queue in queues] == [True, False]
    assert queues[0].is_early(2) and not queues[0].is_early(3)
    frames.hold_edits(4)
    assert queues[1].is_early(0) and not queues[1].is_early(1)


@BOTH
def test_frames_without_addresses_have_none_together(bench: Bench, node: str) -> None:
    rollout, vae = bench.rollout()
    [decoded] = bench.run("LongtakeVAEDecode", rollout=bench.collect(rollout, "latent"), vae=vae)
    for both in (join(bench, node, decoded, bench.frames(length=9.0)), join(bench, node, *[
            bench.frames(), decoded])):  # fmt: skip
        assert both.content_key(0) is both.content_key(1) is None and list(both.chunks)
        assert join(bench, node, bench.frames(), both).content_key(4) is None


def three(bench: Bench, outer: str, inner: str) -> Any:
    """Three shots, two of which are joined first."""
    return join(bench, outer, joined(bench, inner, (21.0, 33.0)), bench.frames(seed=7, width=WIDE[
        inner], length=21.0))  # fmt: skip


WIDE = {SPLICE: 32, COMPARE: 64}


@pytest.mark.parametrize("outer", [SPLICE, COMPARE])
@pytest.mark.parametrize("inner", [SPLICE, COMPARE])
def test_nodes_in_a_row_know_their_pieces_too(bench: Bench, outer: str, inner: str) -> None:
    frames = three(bench, outer, inner)
    keys = [frames.content_key(index) for index in range(20)]
    made = list(frames.chunks)
    assert frames._unplanned == {} and keys == [frames.content_key(i) for i in range(20)]
    assert None not in keys[: len(made)] and {*keys[len(made) :]} == {None}
    for number in range(frames.frame_total):
        piece = made[frames.planned_piece(number)]
        assert 0 <= number - piece.first_frame < len(piece.frames)


@pytest.mark.parametrize("chunks", [4, 7])
def test_three_spliced_shots_go_on_after_a_cancel(bench: Bench, chunks: int) -> None:
    cancelled(bench, three(bench, SPLICE, SPLICE), chunks)
    video, whole = (save(bench, three(bench, SPLICE, SPLICE)) for _ in range(2))
    assert [path.name for path in (video, whole)] == ["clip_00001_.mkv", "clip_00002_.mkv"]
    assert len(pictures(video)) == 21 + 33 + 21 - 2 * 8
    assert all(map(np.array_equal, pictures(video), pictures(whole)))


def test_a_stop_in_the_first_of_three_shots_adds_nothing_else(bench: Bench) -> None:
    """The outer node counts as many pieces as were planned, of another splice."""
    cancelled(bench, three(bench, SPLICE, SPLICE), 4)
    frames = three(bench, SPLICE, SPLICE)
    at_chunk(bench, 1, lambda: frames.sources[0].sources[0].controls.stop())
    video = save(bench, frames)
    bench.state.start_prompt()
    whole = pictures(save(bench, three(bench, SPLICE, SPLICE)))
    assert video.name == "clip_00001_.mkv" and len(pictures(video)) < len(whole)
    assert all(map(np.array_equal, pictures(video), whole))
