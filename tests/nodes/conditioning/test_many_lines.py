"""What a long timeline says of itself: a sentence for each kind of remark, not for each line."""

from __future__ import annotations

import pytest
import torch

from longtake.tests.support.node_bench import Bench


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ([0, 99], ["The shot ends before the prompt 'line 1' starts."]),
        ([0, 97, 98, 99], ["The shot ends before the prompt 'line 1' and 2 more start."]),
        (
            [0, 0, 0.1, 99],
            [
                "The prompt 'line 0' at 0 s and 1 more are replaced by a lower line of the same "
                "chunk.",
                "The shot ends before the prompt 'line 3' starts.",
            ],
        ),
    ],
)
def test_lines_without_effect_share_a_sentence(
    bench: Bench, starts: list[float], expected: list[str]
) -> None:
    """A timeline of an hour, tried with a length of seconds, must not fill the node with text."""
    from longtake.nodes.conditioning.prompt_plan import unused_prompts
    from longtake.nodes.conditioning.timeline import TimedEmbedding, Timeline
    from longtake.nodes.length import SECONDS, snapped_length

    entries = tuple(
        TimedEmbedding(start, torch.ones(5, 8), f"line {number}")
        for number, start in enumerate(starts)
    )
    timeline = Timeline(entries, torch.zeros(5, 8))
    assert unused_prompts(timeline, snapped_length(2.0, SECONDS, 16.0, 3)) == expected


@pytest.mark.parametrize(
    ("count", "end"),
    [
        (2, "'zza', 'zzb'; the prompt is used without them."),
        (13, "'zzk', 'zzl' and 1 more; the prompt is used without them."),
        (26, "'zzk', 'zzl' and 14 more; the prompt is used without them."),
    ],
)
def test_of_many_unknown_words_a_warning_names_the_first(
    bench: Bench, count: int, end: str
) -> None:
    """A prompt written for another model has mostly words that the demo does not know."""
    from longtake.nodes.models.demo_objects import problems

    clip = bench.run("LongtakeLoadDemoModel")[1]
    words = " ".join(f"zz{chr(ord('a') + number)}" for number in range(count))
    [said] = problems(clip.encode_prompt(words))
    assert said.startswith("The demo model does not know 'zza', 'zzb'") and said.endswith(end)


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("a red ball | a blue ball", True),
        ("0: a red ball | a blue ball", True),
        ("a {red | blue} ball", False),
        ("0: a red | green ball\n5: a blue ball", False),
    ],
)
def test_a_prompt_with_bars_is_said_to_be_one_prompt(
    bench: Bench, caplog: pytest.LogCaptureFixture, text: str, is_told: bool
) -> None:
    """Other nodes split a text there, and give each part its own section of the video."""
    clip = bench.run("LongtakeLoadDemoModel")[1]
    [timeline] = bench.run("LongtakePromptTimeline", clip=clip, text=text)
    assert len(timeline.entries) == max(text.count(":"), 1)
    assert ("does not separate prompts here" in caplog.text) == is_told
