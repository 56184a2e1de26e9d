"""Which prompt is in force when."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.errors import BadInput
from longtake.samplers.conditioning import embedding as forms
from longtake.samplers.conditioning.digest import embedding_digest
from longtake.samplers.conditioning.embedding import fit, values_of
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.conditioning.prompts import (
    TimedPrompt,
    chunk_start,
)
from longtake.samplers.schedule.rows import StaggeredSchedule
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import CHUNKS, TINY, randn, settings, timeline


@examples(100)
@given(starts=st.sets(st.integers(1, 50), max_size=6), frame=st.integers(0, 60))
def test_the_latest_prompt_that_has_started_is_in_force(starts: set[int], frame: int) -> None:
    times = [0, *sorted(starts)]
    assert timeline(*times).at(frame).start_frame == max(t for t in times if t <= frame)


@pytest.mark.parametrize("starts", [(), (3,), (0, 0), (0, 6, 3)])
def test_times_that_do_not_increase_from_the_start_are_refused(starts: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="(?i)prompt"):
        timeline(*starts)


@pytest.mark.parametrize("words", [0, 3, 5, 8])
def test_an_embedding_is_padded_with_zeros_or_cut(words: int) -> None:
    embedding = randn(words, 4)
    fitted = values_of(fit(embedding, 5))
    kept = min(words, 5)
    assert fitted.shape == (5, 4)
    assert torch.equal(fitted[:kept], embedding[:kept])
    assert torch.equal(fitted[kept:], torch.zeros(5 - kept, 4))


@examples(100)
@given(frame=st.floats(0, 1e5), chunk=st.integers(1, 8))
def test_prompts_change_at_the_nearest_chunk_boundary(frame: float, chunk: int) -> None:
    start = chunk_start(frame, chunk)
    assert start % chunk == 0
    assert abs(start - frame) <= chunk / 2


@examples(100)
@given(frame=st.floats(0, 1e3), chunk=st.integers(1, 8), origin=st.integers(0, 20))
def test_prompts_after_given_frames_change_where_chunks_begin(
    frame: float, chunk: int, origin: int
) -> None:
    boundaries = {0, *range(origin % chunk, 2000, chunk)}
    start = chunk_start(frame, chunk, origin)
    assert start in boundaries
    assert abs(start - frame) == min(abs(one - frame) for one in boundaries)


def test_the_digest_is_of_the_values_not_of_where_they_are() -> None:
    embedding = randn(5, 4)
    assert embedding_digest(embedding) == embedding_digest(embedding.T.contiguous().T)
    assert embedding_digest(embedding) == embedding_digest(embedding.double())
    changed = embedding.clone()
    changed[4, 3] += 1e-6
    assert embedding_digest(changed) != embedding_digest(embedding)


def test_a_prompts_digest_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 MB in a large model, and every chunk's address asks for it."""
    taken = list[Tensor]()

    def digest(embedding: Tensor) -> str:
        taken.append(embedding)
        return "of it"

    monkeypatch.setattr(forms, "embedding_digest", digest)
    entry = TimedPrompt(0, forms.fit(randn(5, 4), 5))
    later = replace(entry, start_frame=6)  # the same numbers
    assert (entry.digest, entry.digest, later.digest) == ("of it",) * 3
    assert [torch.equal(one, entry.values) for one in taken] == [True]


FAR = KnownFrame(5, torch.zeros(TINY.out_channels, 4, 6), 1.0, lookahead=9)
NEXT = tuple(KnownFrame(i, torch.zeros(TINY.out_channels, 4, 6), lookahead=9) for i in range(6))


@pytest.mark.parametrize("schedule", [CHUNKS, replace(CHUNKS, first_frames=1)])
@pytest.mark.parametrize(
    ("starts", "known"),
    [((0, 3), (FAR,)), ((0, 3), NEXT), ((0, 1, 2), NEXT[:2])],
    ids=["noise ahead", "given frames alone", "one chunk"],
)
def test_no_more_prompts_are_in_force_than_are_planned(
    starts: tuple[int, ...], known: tuple[KnownFrame, ...], schedule: StaggeredSchedule
) -> None:
    """Neither a frame of pure noise nor a given one at the front brings a prompt before its time;
    of prompts that begin in one chunk the last one holds.
    """
    shot = settings(schedule, prompts=timeline(*starts), known_frames=KnownFrames(known))
    fronts = {row.first for row in shot.noise_rows()}
    stops = {at: schedule.active_stop(at, shot.length, shot.origin) for at in fronts}
    together = [shot.active_prompts(*span).prompts for span in stops.items()]
    assert max(map(len, together)) <= shot.prompts_at_once
