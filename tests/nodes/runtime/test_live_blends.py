"""Live edits beside blends, a second prompt and written guidance; kept, they give the same shot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at, pictures

SHOT = {"width": 32, "height": 32, "length": 57.0, "length_unit": "frames"}
MIX = "0: 0\n1.3: 0.5\n2: 0.25"


def frames_of(bench: Bench, text: str, mix: str | None = None) -> Any:
    """A shot of 57 frames in five chunks, with a second prompt if `mix` gives its shares."""
    model, clip, vae = bench.run("LongtakeLoadDemoModel", quality="full")
    inputs: dict[str, Any] = {}
    if mix is not None:
        second = clip.encode_from_tokens_scheduled(clip.tokenize("blue"))
        inputs = {"mix": mix, "mix_prompt": second}
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text=text, **inputs)
    [schedule] = bench.run("LongtakeSchedule", steps=1, first_steps=0)
    [rollout] = bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, **SHOT
    )
    return bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)[0]


def edit_once(bench: Bench, frames: Any, ask: Callable[[Any], None]) -> Any:
    """The pictures of a shot that is edited at its second chunk, and the edit."""
    ask_at(bench, 0, lambda: ask(frames.controls))
    made = pictures(bench, frames)
    [edit] = frames.controls.edits
    assert edit.status == "applied"
    bench.state.start_prompt()
    return made, edit


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("0: a red ball\n0.5625 (over 2): blue", None),
        ("0: a red ball\n0.1 (over 2): blue", None),
        ("0: a red ball\n1.3125 (over 1.5): blue", None),
        ("0: a red ball", MIX),
    ],
    ids=["in a blend", "at its start", "before a blend", "with a second prompt"],
)
def test_a_prompt_holds_until_the_next_line_as_the_kept_line_does(
    bench: Bench, text: str, mix: str | None
) -> None:
    made, edit = edit_once(bench, frames_of(bench, text, mix), lambda c: c.set_prompt("ball"))
    kept = frames_of(bench, f"{text}\n{edit.line}", mix)
    assert kept.rollout.spec.stored_chunks() == 5
    assert torch.equal(pictures(bench, kept), made)


@pytest.mark.parametrize("seconds", [1.5, 2.0, 60.0])
def test_a_prompt_that_blends_in_is_a_line_with_over(bench: Bench, seconds: float) -> None:
    frames = frames_of(bench, "0: a red ball")
    made, edit = edit_once(bench, frames, lambda c: c.set_prompt("blue", seconds))
    over = {1.5: "1.5", 2.0: "2.25", 60.0: "60"}[seconds]  # chunks of 0.75 s
    assert edit.line == f"0.5625 (over {over}): blue" == edit.summary
    kept = frames_of(bench, f"0: a red ball\n{edit.line}")
    assert kept.rollout.spec.stored_chunks() == 5
    assert torch.equal(pictures(bench, kept), made)
    written = frames_of(bench, f"0: a red ball\n0.5625 (over {seconds:g}): blue")
    assert written.rollout.spec.key(4) == kept.rollout.spec.key(4)
    cut = frames_of(bench, "0: a red ball\n0.5625: blue")
    assert cut.rollout.spec.key(1) != kept.rollout.spec.key(1)


def test_the_line_of_a_guidance_has_the_prompt_as_it_was_written(bench: Bench) -> None:
    frames = frames_of(bench, "0: a red ball", mix="0: 0.5")
    made, edit = edit_once(bench, frames, lambda c: c.set_number("guidance", 2.0))
    assert edit.line == "0.5625 (guidance 2): a red ball"
    kept = frames_of(bench, f"0: a red ball\n{edit.line}", mix="0: 0.5")
    assert torch.equal(pictures(bench, kept), made)


def test_no_line_says_a_guidance_that_changes_within_a_blend(bench: Bench) -> None:
    frames = frames_of(bench, "0: a red ball\n0.5625 (over 2): blue")
    _, edit = edit_once(bench, frames, lambda c: c.set_number("guidance", 2.0))
    assert edit.line is None and edit.summary == "2.0"


def test_blends_follow_their_times_not_the_order_in_which_they_are_written(bench: Bench) -> None:
    lines = ["0: a red ball", "0.5625 (over 1.5): blue", "1.3125 (over 1.5): ball"]
    in_order = frames_of(bench, "\n".join(lines)).rollout
    other = frames_of(bench, "\n".join([lines[0], lines[2], lines[1]])).rollout
    assert in_order.spec.key(4) == other.spec.key(4)
