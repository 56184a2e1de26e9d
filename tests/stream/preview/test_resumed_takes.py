"""A take that begins with the chunks of the cancelled run before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.stream.preview.messages import Ending, Origin, Shot, TakeStats
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Earlier, Takes
from longtake.tests.support.numbered_frames import numbered_frames

PROMPTS = ["a red ball", "a red ball", "a blue ball", "a yellow ball"]  # one a chunk


@pytest.fixture
def takes(tmp_path: Path) -> Iterator[Takes]:
    opened = Takes(lambda: tmp_path)
    yield opened
    opened.reset()


def begin(takes: Takes, limit: int | None = None) -> Take:
    """A run of a node that shows the chunks of its last take again, up to `limit`."""
    origin = Origin("7", "7", "prompt", "canvas", "page")
    earlier = Earlier(str, limit)
    return takes.create(Shot(16.0, 64, 48, 48), origin, lambda *_: None, None, earlier)


def finish(take: Take) -> Take:
    for chunk in range(take.first_new, len(PROMPTS)):
        frames = numbered_frames(12 * chunk, 12, 64, 48)
        take.show(frames, 12 * chunk, PROMPTS[chunk], TakeStats(), str(chunk))
    take.finish(Ending("done"))
    take.join()
    return take


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_a_resumed_take_has_the_prompts_of_its_own_chunks_only(takes: Takes, kept: int) -> None:
    """The player draws a triangle where each begins; later ones may come otherwise."""
    finish(begin(takes))
    resumed = begin(takes, kept)
    known = resumed.manifest()["prompt_changes"]
    starts = [(0, "a red ball"), (24, "a blue ball"), (36, "a yellow ball")]
    expected = [(at, text) for at, text in starts if at < 12 * kept]
    assert [(change["frame"], change["text"]) for change in known] == expected
    assert [chunk.first_frame for chunk in finish(resumed).chunks] == [0, 12, 24, 36]
    changes = resumed.manifest()["prompt_changes"]
    assert [changes[chunk.prompt]["text"] for chunk in resumed.chunks] == PROMPTS


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_bytes_of_chunks_that_a_resumed_take_leaves_out_are_free(takes: Takes, kept: int) -> None:
    whole = finish(begin(takes))
    blobs = [chunk.blob for chunk in whole.chunks]
    begin(takes, kept)
    assert [blob.read() is not None for blob in blobs] == [True] * kept + [False] * (4 - kept)
    assert takes.ram_bytes == sum(len(blob.read() or b"") for blob in blobs[:kept])
