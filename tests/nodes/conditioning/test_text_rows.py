"""How prompts fit the rows of text that a model attends to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.samplers.guidance import Branch, Guidance, OwnPrompt
from longtake.tests.support.lasting_host import lasting_host

CONFIG = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=8)


@pytest.fixture(autouse=True)
def _host(tmp_path: Path) -> Iterator[None]:
    with lasting_host(tmp_path, lambda event: None):
        yield


@pytest.mark.parametrize(
    ("words", "shown", "is_cut"),
    [((3, 4), 7, False), ((12, 11), 23, False), ((12, 12), 23, True), ((23, 23), 23, True)],
)
def test_demo_prompts_that_conditioning_concat_joins_share_the_text_length(
    words: tuple[int, int], shown: int, is_cut: bool
) -> None:
    """ComfyUI joins them along the tokens, with the zeros of each behind its words."""
    from longtake.model.preset import DEMO
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline, truncated_prompts
    from longtake.nodes.length import SECONDS, snapped_length

    parts = [torch.rand(count, 8) + 1 for count in words]
    padded = [torch.cat([part, torch.zeros(24 - len(part), 8)]) for part in parts]
    joined = [[torch.cat(padded)[None], {}]]
    length = snapped_length(1.0, SECONDS, 16.0, 3)
    fitted = prompt_timeline(joined, CONFIG, length, DEMO.text_len).entries[0].values
    assert torch.equal(fitted[:shown], torch.cat(parts)[:shown])
    assert fitted.shape == (24, 8) and not fitted[shown:].any()
    said = truncated_prompts(joined, CONFIG, text_len=DEMO.text_len)
    sentence = f"The prompt has {sum(words)} tokens and the model takes 23; the rest is left out."
    assert said == ([sentence] if is_cut else [])


@pytest.mark.parametrize(("factor", "text"), [(1.0, "the camera pans left"), (0.0, "")])
def test_a_prompt_that_was_zeroed_out_moves_the_camera_no_more(factor: float, text: str) -> None:
    """Conditioning Zero Out clears the embedding and keeps what was attached to it."""
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline
    from longtake.nodes.length import SECONDS, snapped_length
    from longtake.nodes.models.demo_objects import PROMPT_TEXT

    options = {PROMPT_TEXT: "the camera pans left"}
    prompts = [[factor * torch.ones(1, 24, 8), options]]
    length = snapped_length(1.0, SECONDS, 16.0, 3)
    assert prompt_timeline(prompts, CONFIG, length).entries[0].text == text


def test_a_mixed_prompt_that_is_cut_is_told_too() -> None:
    from longtake.nodes.conditioning.prompt_plan import truncated_prompts
    from longtake.nodes.conditioning.timed_numbers import TimedNumber
    from longtake.nodes.conditioning.timeline import SecondPrompt, TimedEmbedding, Timeline

    line, negative = TimedEmbedding(0.0, torch.ones(24, 8), ""), torch.zeros(24, 8)
    for words, said in (
        (24, []),
        (30, ["The mix_prompt has 30 tokens and the model takes 23; the rest is left out."]),
    ):
        second = SecondPrompt(torch.ones(words, 8), (TimedNumber(0.0, 1.0),))
        timeline = Timeline((line,), negative, second=second)
        assert truncated_prompts(timeline, CONFIG, text_len=24) == said


@pytest.mark.parametrize("place", ["line", "negative", "mix_prompt", "own_prompt"])
def test_a_prompt_with_nan_is_refused_before_the_shot(place: str) -> None:
    from longtake.nodes.conditioning.prompt_plan import check_guidance_prompts, prompt_timeline
    from longtake.nodes.conditioning.timed_numbers import TimedNumber
    from longtake.nodes.conditioning.timeline import SecondPrompt, TimedEmbedding, Timeline
    from longtake.nodes.length import SECONDS, snapped_length

    whole, broken = torch.ones(24, 8), torch.full((24, 8), torch.nan)
    line, negative, mixed, own = (
        broken if place == name else whole
        for name in ("line", "negative", "mix_prompt", "own_prompt")
    )
    timeline = Timeline(
        (TimedEmbedding(0.0, line, ""),), negative,
        second=SecondPrompt(mixed, (TimedNumber(0.0, 1.0),)),
    )  # fmt: skip
    guidance = Guidance((Branch(1.0, OwnPrompt(own)),))
    with pytest.raises(BadInput, match="text encoder gave NaN or infinity for a prompt"):
        check_guidance_prompts(guidance, CONFIG)
        prompt_timeline(timeline, CONFIG, snapped_length(1.0, SECONDS, 16.0, 3), 24)
