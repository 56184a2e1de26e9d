"""Lines with times in CLIP Text Encode are words of one prompt: the sampler says so."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from longtake.tests.support.node_bench import Bench


def workflow(text: object, class_type: str = "CLIPTextEncode") -> dict[str, Any]:
    return {
        "LongtakeSampler": {"class_type": "LongtakeSampler", "inputs": {"prompts": ["6", 0]}},
        "6": {"class_type": class_type, "inputs": {"text": text}},
    }


@pytest.mark.parametrize(
    ("graph", "time"),
    [
        (workflow("0: a red ball\n5: a blue ball"), "0:"),
        (workflow("a red ball\n2.5 (over 2): a blue ball"), "2.5 (over 2):"),
        (workflow("a red ball"), None),
        (workflow("16:9 picture of a red ball"), None),
        (workflow(["7", 0]), None),
        (workflow("0: a red ball", "LongtakePromptTimeline"), None),
        (None, None),
    ],
)
def test_times_that_are_read_as_words_are_warned_of(
    bench: Bench, caplog: pytest.LogCaptureFixture, graph: Any, time: str | None
) -> None:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    bench.prompt = graph
    prompts = clip.encode_from_tokens_scheduled(clip.tokenize("a red ball"))
    bench.run("LongtakeSampler", model=model, prompts=prompts, plan_only=True, width=32, height=32)
    said = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    sentences = [one for one in said if "CLIP Text Encode" in one]
    assert sentences == ([] if time is None else [
        f"The prompt has the time `{time}`, which CLIP Text Encode takes for words; use Prompt "
        "Timeline in its place."
    ])  # fmt: skip
