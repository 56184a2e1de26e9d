"""Guidance and a second prompt that follow numbers over time, chunk by chunk."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.nodes.conditioning.over_time import values_by_chunk
from longtake.nodes.conditioning.timed_numbers import NumbersOverTime, TimedNumber, read_numbers
from longtake.nodes.length import Length, snapped_length
from longtake.tests.support.node_bench import Bench

SHOT = {"seed": 3, "width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
LINES = "0: 0\n0.5: 1\n1 (over 1): 0.2"


def length(frames: float = 61, origin: int = 0) -> Length:
    return snapped_length(frames, "frames", 16.0, 3, origin)


def shot(bench: Bench, text: str = "0: a red ball", **inputs: Any) -> Any:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    if "mix" in inputs:
        inputs["mix_prompt"] = clip.encode_from_tokens_scheduled(clip.tokenize("a blue ball"))
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text=text, negative="", **inputs)
    [rollout] = bench.run("LongtakeSampler", model=model, prompts=prompts, **SHOT)
    return rollout


def latents(rollout: Any) -> Tensor:
    return torch.cat([chunk.latents for chunk in rollout.chunks])


def test_numbers_hold_and_ease() -> None:
    numbers = read_numbers(LINES, "mix", 1.0)
    found = [NumbersOverTime(numbers).at(t) for t in (0, 0.49, 0.5, 0.99, 1, 1.25, 2, 9)]
    assert found == pytest.approx([0, 0, 1, 1, 1, 0.8, 0.2, 0.2])
    early = [TimedNumber(1, 0.5), TimedNumber(1.2, 1, 1), TimedNumber(1.7, 0, 1)]
    found = [NumbersOverTime(early).at(t) for t in (0, 1.45, 1.7, 2.2)]
    assert found == pytest.approx([0.5, 0.625, 0.75, 0.375])  # the third begins half way


@pytest.mark.parametrize("origin", [0, 4, -2])
def test_a_chunk_has_the_mean_of_its_frames(origin: int) -> None:
    """Below 0 the first chunk is one latent frame."""
    numbers = read_numbers("0: 1\n0.4 (over 2): 10\n2.6 (over 1): 2", "guidance", 30)
    shot_length = length(61, origin)
    found = values_by_chunk(numbers, shot_length)
    begin = [0, *range(origin % 3 or 3, 40, 3)]
    for first, stop in pairwise(begin):
        times = [(4 * f - 3 + i + 0.5) / 16 for f in range(first, stop) for i in range(4)]
        mean = sum(NumbersOverTime(numbers).at(t) for t in times) / len(times)
        value = [found[start] for start in found if start <= first][-1]
        assert value == pytest.approx(mean, abs=0.35 if first == 0 else 0.12), first


def test_an_endless_shot_follows_the_numbers_to_their_end() -> None:
    found = values_by_chunk([TimedNumber(i, i % 2) for i in range(100)], length(0))
    assert 97 < 4 * max(found) / 16 < 101


def test_share_0_is_the_plain_shot_and_share_1_the_other(bench: Bench) -> None:
    plain, other = latents(shot(bench)), latents(shot(bench, "0: a blue ball"))
    assert torch.equal(latents(shot(bench, mix="0")), plain)
    torch.testing.assert_close(latents(shot(bench, mix="1")), other, rtol=0, atol=1e-5)
    assert not torch.allclose(plain, other, atol=1e-3)


def test_a_share_that_rises_changes_nothing_before_it_rises(bench: Bench) -> None:
    plain, mixed = latents(shot(bench)), latents(shot(bench, mix="0: 0\n1: 0.6"))
    changed = (plain - mixed).abs().amax((1, 2, 3)) > 0
    assert not changed[:3].any() and changed[6:].all()


def test_a_prompt_is_mixed_in_by_its_share(bench: Bench) -> None:
    lines = "0: a red ball\n1: a ball\n3: a red ball"
    entries = shot(bench, lines, mix="0: 0.25\n1: 0.5").settings.prompts
    [red], [blue], [ball] = (
        shot(bench, f"0: {words}").settings.prompts.entries
        for words in ("a red ball", "a blue ball", "a ball")
    )
    first, *_, middle, last = entries.entries
    assert torch.allclose(first.values, torch.lerp(red.values, blue.values, 0.25))
    assert torch.allclose(middle.values, torch.lerp(ball.values, blue.values, 0.5))
    assert torch.allclose(last.values, torch.lerp(red.values, blue.values, 0.5))
    assert (first.text, middle.text) == ("a red ball (mixed 25%)", "a ball (mixed 50%)")


def test_guidance_over_time_is_that_of_timed_lines(bench: Bench) -> None:
    by_lines = shot(bench, "0 (guidance 1): a red ball\n0.75 (guidance 3): a red ball")
    by_numbers = shot(bench, guidance="0: 1\n0.6: 3")
    assert by_numbers.settings.guidance_changes == by_lines.settings.guidance_changes
    assert torch.equal(latents(by_numbers), latents(by_lines))


def test_many_strengths_are_planned_as_one(bench: Bench) -> None:
    numbers = "\n".join(f"{i / 4}: {1.5 + i % 7 / 4}" for i in range(40))
    settings = shot(bench, guidance=numbers).settings
    assert len(settings.guidance_changes) > 2
    assert len(settings.stages) <= 2


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"guidance": "0: 40"}, "Line 1 of the guidance says '40'; write a number from 0 to 30"),
        ({"mix": "0: 2"}, "Line 1 of the mix says '2'; write a number from 0 to 1"),
        ({"mix": ""}, "The mix is empty; write a number from 0 to 1"),
        ({"guidance": "\n"}, "The guidance is empty; write a number from 0 to 30"),
    ],
)
def test_a_number_out_of_range_is_named(bench: Bench, inputs: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        shot(bench, **inputs)


def test_what_goes_together_is_said(bench: Bench) -> None:
    clip = bench.run("LongtakeLoadDemoModel")[1]
    with pytest.raises(BadInput, match="`mix` and `mix_prompt` go together"):
        bench.run("LongtakePromptTimeline", clip=clip, text="0: a ball", negative="", mix="1")
    with pytest.raises(BadInput, match="remove one of them"):
        shot(bench, "0 (guidance 2): a ball", guidance="3")
