"""Prompts that ComfyUI's own nodes change between CLIP Text Encode and the sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.tests.support.node_bench import CONFIG, Bench, node_bench, tiny_demo

SAID = "after CLIP Text Encode, but the camera moves by these words alone"
Change = Callable[[Tensor, Tensor], Tensor]


def average(share: float) -> Change:
    """What ConditioningAverage does with the embeddings; it keeps the first one's options."""
    return lambda to, other: to * share + other * (1 - share)


@pytest.mark.parametrize(
    ("change", "mark", "is_told"),
    [
        (average(1.0), "", False),
        (average(0.5), " (changed)", True),
        (average(0.0), " (changed)", True),
        (lambda to, other: torch.cat([to, other], 1), " (changed)", True),
        (lambda to, other: torch.zeros_like(to), None, False),
    ],
)
def test_words_that_tell_a_part_of_the_prompt_are_said_to_move_the_camera(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
    change: Change,
    mark: str | None,
    is_told: bool,
) -> None:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    words = "a red ball, the camera pans left"
    [[to, options]] = encoded(clip, words)
    [[other, _]] = encoded(clip, "a blue ball, the camera pans right")
    prompts = [[change(to, other), options]]
    rollout = sampled(bench, model, prompts)
    [prompt] = rollout.spec.settings.prompts.entries
    assert prompt.text == ("" if mark is None else words + mark)
    assert (SAID in caplog.text) == is_told


def test_a_camera_path_leaves_no_words_to_move_the_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    demo = tmp_path / "demo"
    demo.mkdir()
    tiny_demo(demo, replace(CONFIG, camera="action"))
    with node_bench(tmp_path / "out", demo, monkeypatch) as bench:
        model, clip, _ = bench.run("LongtakeLoadDemoModel", quality="full")
        [[embedding, options]] = encoded(clip, "a red ball")
        doubled = [[embedding * 2, options]]
        [camera] = bench.run("LongtakeCameraPath", moves="0: pan left")
        sampled(bench, model, doubled, camera=camera)
        assert SAID not in caplog.text
        sampled(bench, model, doubled)
        assert SAID in caplog.text


def test_an_empty_prompt_with_another_mixed_in_is_told_too(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [[empty, options]] = encoded(clip, "")
    [[other, _]] = encoded(clip, "a red ball, the camera pans left")
    sampled(bench, model, [[average(0.5)(empty, other), options]])
    assert f"A node changed the prompt '' {SAID}" in caplog.text


def encoded(clip: Any, text: str) -> list[list[Any]]:
    """The CONDITIONING of CLIP Text Encode."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def sampled(bench: Bench, model: Any, prompts: list[list[Any]], **inputs: Any) -> Any:
    """The plan of a short shot."""
    shot = {"seed": 3, "width": 32, "height": 32, "length": 1.0, "length_unit": "seconds",
            "cfg": -1.0, "plan_only": True}  # fmt: skip
    [rollout] = bench.run("LongtakeSampler", model=model, prompts=prompts, **shot, **inputs)
    return rollout
