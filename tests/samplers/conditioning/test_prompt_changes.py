"""A prompt that is added to a timeline with blends and a second prompt, as if it had been there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.cache.policy import WindowSink
from longtake.samplers.conditioning.blend import Blend
from longtake.samplers.conditioning.prompts import PromptMix, PromptTimeline, TimedPrompt
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import Loop
from longtake.samplers.settings import OnPromptChange
from longtake.stream.journal.chain import Chain
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import TINY, embedding, random_dit, settings

CHUNK = 3
MIX = PromptMix(torch.full((1, 1), 100.0), ((0, 0.0), (6, 0.5), (12, 0.25)))


def line(chunk: int, value: float, parts: int = 0) -> TimedPrompt:
    """A prompt of one number from a chunk on, that blends in over `parts` chunks."""
    blend = Blend(CHUNK, parts, parts) if parts else None
    return TimedPrompt(CHUNK * chunk, torch.full((1, 1), value), f"{value:g}", blend=blend)


def timeline(*lines: TimedPrompt, mix: PromptMix | None = None) -> PromptTimeline:
    return PromptTimeline(lines, torch.zeros(1, 1), mix)


def values(prompts: PromptTimeline, chunks: int = 6) -> list[float]:
    """What each chunk has."""
    return [float(prompts.at(CHUNK * chunk).values) for chunk in range(chunks)]


def test_a_blend_has_equal_parts_and_begins_where_the_one_before_has_come_to() -> None:
    prompts = timeline(line(0, 0.0), line(1, 8.0, parts=3), line(3, 0.0, parts=1), line(5, 1.0))
    assert values(prompts) == [0.0, 2.0, 4.0, 2.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("start", "parts", "length", "blend"),
    [
        (0, 4, 30, None),
        (3, 0, 30, None),
        (3, 100, None, Blend(3, 100, 100)),
        (3, 4, 30, Blend(3, 4, 4)),
        (27, 100, 30, Blend(3, 100, 17)),
        (27, 100, 31, Blend(3, 100, 18)),
        (90, 5, 30, Blend(3, 5, 1)),
    ],
    ids=[
        "at the start",
        "too short",
        "no end",
        "inside",
        "over the end",
        "part of a chunk",
        "late",
    ],
)
def test_a_blend_is_made_up_to_sixteen_chunks_after_the_end(
    start: int, parts: int, length: int | None, blend: Blend | None
) -> None:
    assert Blend.at(start, parts, 3, length) == blend


def test_a_new_prompt_ends_the_blend_that_it_falls_into() -> None:
    prompts = timeline(line(0, 0.0), line(1, 8.0, parts=3))
    assert values(prompts.with_prompt(line(2, 5.0))) == [0.0, 2.0, 5.0, 5.0, 5.0, 5.0]
    assert values(prompts.with_prompt(line(1, 5.0))) == [0.0, 5.0, 5.0, 5.0, 5.0, 5.0]


def test_a_later_blend_begins_with_the_new_prompt() -> None:
    prompts = timeline(line(0, 0.0), line(2, 8.0, parts=3))
    assert values(prompts.with_prompt(line(1, 4.0))) == [0.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_a_new_prompt_makes_no_step_of_an_earlier_blend_again() -> None:
    prompts = timeline(line(0, 0.0), line(1, 8.0, parts=3))
    later = prompts.with_prompt(line(5, 2.0, parts=2))
    assert [id(entry) for entry in later.entries[:5]] == [id(entry) for entry in prompts.entries]
    assert values(later.with_prompt(line(6, 1.0)), 8)[4:] == [8.0, 6.0, 1.0, 1.0]


def test_the_second_prompt_is_mixed_into_a_new_one() -> None:
    prompts = timeline(line(0, 0.0), mix=MIX).with_prompt(line(1, 4.0))
    assert values(prompts) == [0.0, 4.0, 52.0, 52.0, 28.0, 28.0]


def test_the_line_in_force_is_that_of_the_user_and_none_while_it_blends() -> None:
    prompts = timeline(line(0, 0.0), line(1, 8.0, parts=2), mix=MIX)
    lines = [prompts.complete_line(CHUNK * chunk) for chunk in range(4)]
    assert [at and at.text for at in lines] == ["0", None, None, "8"]


@examples(50)
@given(
    parts=st.lists(st.integers(0, 4), min_size=5, max_size=5),
    there=st.sets(st.integers(1, 5)),
    added=st.integers(1, 5),
    mixed=st.booleans(),
)
def test_an_added_prompt_is_one_that_was_written(
    parts: list[int], there: set[int], added: int, mixed: bool
) -> None:
    mix = MIX if mixed else None
    lines = [line(0, 1.0), *(line(at, at + 1.0, parts[at - 1]) for at in sorted(there - {added}))]
    new = line(added, 9.0)
    written = sorted([*lines, new], key=lambda line: line.start_frame)
    old = [*lines, line(added, 3.0, parts[0])] if added in there else lines
    before = timeline(*sorted(old, key=lambda line: line.start_frame), mix=mix)
    assert values(before.with_prompt(new), 9) == values(timeline(*written, mix=mix), 9)


def test_what_blends_and_the_mix_add_is_counted_before_it_is_made() -> None:
    prompts = timeline(line(0, 0.0), line(1, 8.0, parts=3), line(2, 0.0, parts=2), mix=MIX)
    assert prompts.step_count == 1 + 2 + 3
    assert "entries" not in vars(prompts)
    huge = replace(prompts.lines[1], blend=Blend(CHUNK, 10**9, 10**9))
    assert timeline(prompts.lines[0], huge).step_count == 10**9


@pytest.mark.parametrize("change", ["flush", "re-cache", "keep"])
def test_a_line_that_repeats_the_prompt_changes_nothing(change: OnPromptChange) -> None:
    """Its chunks have the same addresses, so they must have the same bits."""
    nothing = torch.zeros_like(embedding(1))
    once = PromptTimeline((TimedPrompt(0, embedding(1), "a"),), nothing)
    twice = once.with_prompt(TimedPrompt(6, embedding(1), "a"))
    engine = local_denoiser(random_dit(), TINY)
    shots = []
    for prompts in (once, twice):
        made = settings(length=12, prompts=prompts, on_prompt_change=change, cache=WindowSink(4, 1))
        made_latents = torch.cat([chunk.latents for chunk in Loop(made, engine).chunks()])
        shots.append((Chain(made, "m").key(3), made_latents))
    assert shots[0][0] == shots[1][0] and torch.equal(shots[0][1], shots[1][1])


def test_words_that_move_the_camera_are_no_repeat() -> None:
    still, moving = TimedPrompt(0, embedding(1), "a"), TimedPrompt(3, embedding(1), "panning left")
    assert len(PromptTimeline((still, moving), embedding(0)).entries) == 2
