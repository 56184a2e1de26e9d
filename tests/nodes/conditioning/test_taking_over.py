"""Prompts that take the place of others slowly: steps by chunk, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.samplers.conditioning.embedding import Mixture
from longtake.tests.support.lasting_host import lasting_host

CONFIG = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=8)


@pytest.fixture(autouse=True)
def _host(tmp_path: Path) -> Iterator[None]:
    with lasting_host(tmp_path, lambda event: None):
        yield


def blended(*lines: tuple[float, float, float]) -> list[tuple[int, float]]:
    """Start and value of prompts of one number each, from (second, value, seconds to take over)."""
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline
    from longtake.nodes.conditioning.timeline import TimedEmbedding, Timeline
    from longtake.nodes.length import SECONDS, snapped_length

    entries = tuple(
        TimedEmbedding(second, torch.full((2, 8), value), f"{value}", None, over)
        for second, value, over in lines
    )
    length = snapped_length(10.0, SECONDS, 16.0, 3)
    made = prompt_timeline(Timeline(entries, torch.zeros(2, 8)), CONFIG, length)
    return [(one.start_frame, round(float(one.values[0, 0]), 4)) for one in made.entries]


def test_a_prompt_that_takes_over_is_mixed_in_by_equal_parts_chunk_by_chunk() -> None:
    """16 frames a second, chunks of 3 latent frames: three chunks begin in 2.25 seconds."""
    assert blended((0, 0.0, 0), (1.0, 1.0, 0)) == [(0, 0.0), (6, 1.0)]
    assert blended((0, 0.0, 0), (1.0, 1.0, 2.25)) == [
        (0, 0.0), (6, 0.25), (9, 0.5), (12, 0.75), (15, 1.0)
    ]  # fmt: skip
    assert blended((0, 0.0, 0), (1.0, 1.0, 0.01)) == [(0, 0.0), (6, 1.0)]
    assert blended((0, 1.0, 5)) == [(0, 1.0)]


def test_another_prompt_ends_the_taking_over_and_goes_on_from_there() -> None:
    assert blended((0, 0.0, 0), (1.0, 1.0, 2.25), (2.5, 2.0, 0)) == [
        (0, 0.0), (6, 0.25), (9, 0.5), (12, 2.0)
    ]  # fmt: skip
    assert blended((0, 0.0, 0), (1.0, 1.0, 2.25), (2.5, 2.0, 0.75)) == [
        (0, 0.0), (6, 0.25), (9, 0.5), (12, 1.25), (15, 2.0)
    ]  # fmt: skip


def taking_over(over_s: float, seconds: float, width: int = 8) -> Any:
    """The prompts of `0: a`, `5 (over OVER_S): b` in a shot of so many seconds, 0 without end."""
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline
    from longtake.nodes.conditioning.timeline import TimedEmbedding, Timeline
    from longtake.nodes.length import SECONDS, snapped_length

    one, other = torch.zeros(2, width), torch.ones(2, width)
    entries = (TimedEmbedding(0.0, one, "a"), TimedEmbedding(5.0, other, "b", None, over_s))
    length = snapped_length(seconds, SECONDS, 16.0, 3)
    return prompt_timeline(Timeline(entries, one), replace(CONFIG, text_dim=width), length)


def test_a_prompt_takes_over_only_as_far_as_the_shot_goes() -> None:
    """The rest would be gigabytes that nothing shows; the steps in the shot are those of a shot
    that is long enough for all, and once it is whole the prompt is there for what is added.
    """
    short, whole = (taking_over(1000.0, seconds).entries for seconds in (10.0, 1010.0))
    assert len(whole) == 1 + 1333 + 1 and len(short) < 30
    shown = [one for one in short if one.start_frame < 42]
    assert [one.start_frame for one in shown] == [0, *range(21, 42, 3)]
    for one, other in zip(short[:-1], whole, strict=False):
        assert one.start_frame == other.start_frame
        assert torch.equal(one.values, other.values)
    assert short[-1].start_frame == whole[-1].start_frame == 21 + 3 * 1333
    assert torch.equal(short[-1].values, whole[-1].values)


def test_a_prompt_that_takes_over_at_the_end_goes_on_in_a_continued_shot() -> None:
    """As in one that was longer from the first: a continued shot has the same name."""
    short, longer = (taking_over(8.0, seconds).entries for seconds in (10.0, 20.0))
    assert [one.start_frame for one in short] == [one.start_frame for one in longer]
    assert short[-1].start_frame > 42
    pairs = zip(short, longer, strict=True)
    assert all(torch.equal(one.values, other.values) for one, other in pairs)


@pytest.mark.parametrize("seconds", [0.0, 3000.0])
def test_a_thousand_steps_hold_no_numbers_but_those_of_the_prompts(seconds: float) -> None:
    """Each would be 8 MB in a model of Wan's size."""
    made = taking_over(1000.0, seconds, width=4096)
    steps = [entry.embedding for entry in made.entries if isinstance(entry.embedding, Mixture)]
    assert len(steps) == 1333
    held = {id(part) for step in steps for part in (step.first, step.second)}
    assert held == {id(line.embedding) for line in made.lines}


@pytest.mark.parametrize("seconds", [0.0, 3000.0])
def test_prompts_that_take_over_in_too_many_steps_are_refused(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.conditioning import prompt_plan

    monkeypatch.setattr(prompt_plan, "MAX_STEPS", 1332)
    with pytest.raises(BadInput, match="blend in 1,333 steps, .* takes 1,332; reduce .over."):
        taking_over(1000.0, seconds)
