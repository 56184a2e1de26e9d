"""Laws of the settings that live prompts leave behind: they give the chunks of the edited run.

So a saved or kept shot has the addresses of its chunks, also where chunks before the edit had seen
frames after it under other prompts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.samplers.conditioning.blend import Blend
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.conditioning.prompts import PromptMix, PromptTimeline, TimedPrompt
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import pipeline, pyramid
from longtake.stream.rollout.live import edits
from longtake.tests.support.stream.rollouts import assert_same_bits, rollout
from longtake.tests.support.tiny_model import TEXT_LEN, TINY, embedding, randn, timeline

LADDER = flow_ladder(3, 3.0)
MIX = PromptMix(embedding(5), ((0, 0.2), (1, 0.5), (2, 0.1)))


def line(start: int, prompt: int, blend: Blend | None = None) -> TimedPrompt:
    return TimedPrompt(start, embedding(prompt), str(prompt), blend=blend)


def lines(*prompts: TimedPrompt, mix: PromptMix | None = None) -> PromptTimeline:
    return PromptTimeline(prompts, torch.zeros(TEXT_LEN, TINY.text_dim), mix)


SEEN: dict[str, dict[str, Any]] = {
    "a line where it begins": {"schedule": pyramid(LADDER), "prompts": timeline(0, 1)},
    "a line of the same words": {
        "schedule": pyramid(LADDER),
        "prompts": lines(line(0, 10), line(2, 77)),
    },
    "a blend": {
        "schedule": pyramid(LADDER),
        "prompts": lines(line(0, 10), line(1, 11, Blend(1, 4, 4))),
    },
    "a later blend": {
        "schedule": pipeline(LADDER, 2, 3),
        "prompts": lines(line(0, 10), line(4, 11, Blend(2, 2, 2))),
    },
    "a second prompt": {"schedule": pyramid(LADDER), "prompts": lines(line(0, 10), mix=MIX)},
    "a known picture": {
        "prompts": lines(line(0, 10), line(9, 11, Blend(3, 1, 1))),
        "known_frames": KnownFrames((KnownFrame(11, randn(4, 4, 6), lookahead=12),)),
    },
}


@pytest.mark.parametrize("over_s", [0.0, 1.0], ids=["at once", "over a second"])
@pytest.mark.parametrize("seen", SEEN)
def test_chunks_keep_the_prompts_that_they_have_seen(
    tmp_path: Path, seen: str, over_s: float
) -> None:
    made = rollout(tmp_path / "live", **SEEN[seen])
    run, live = made.run, []
    for chunk in run.chunks:
        live.append(chunk)
        if chunk.index == 0:
            run.controls.set_prompt("77", over_s)
    changes = {name: getattr(run.state.settings, name) for name in ("prompts", "guidance")}
    fresh = rollout(tmp_path / "fresh", **{**SEEN[seen], **changes})
    keys = [[chain.key(chunk.index) for chunk in live] for chain in (run.state.chain, fresh.spec)]
    assert keys[0] == keys[1] and keys[0][0] == made.spec.key(0) != keys[0][1]
    assert_same_bits(list(fresh.chunks), live)


def test_a_blend_of_too_many_steps_is_refused_and_the_shot_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edits, "MAX_STEPS", 0)
    made = rollout(tmp_path / "live")
    run, count = made.run, 0
    for chunk in run.chunks:
        count += 1
        if chunk.index == 0:
            run.controls.set_prompt("77", 1.0)
    [edit] = run.controls.edits
    assert edit.status == "failed" and "let the prompt begin at once" in str(edit.error)
    assert count == made.spec.chunk_count and run.state.chain is made.spec.chain


@pytest.mark.parametrize("change", ["flush", "re-cache", "keep"])
def test_a_prompt_that_is_in_force_changes_nothing(tmp_path: Path, change: str) -> None:
    """Also where a second prompt is mixed into all: its chunks have the same addresses."""
    given = {"prompts": lines(line(0, 10), mix=MIX), "on_prompt_change": change}
    made = rollout(tmp_path / "live", cache=WindowSink(4, 1), **given)
    run, live = made.run, []
    for chunk in run.chunks:
        live.append(chunk)
        if chunk.index == 2:
            run.controls.set_prompt("10")
    plain = rollout(tmp_path / "plain", cache=WindowSink(4, 1), **given)
    assert run.state.chain.key(3) == plain.spec.key(3)
    assert_same_bits(list(plain.chunks), live)


def test_a_prompt_that_comes_back_is_held_once(tmp_path: Path) -> None:
    """Keys 1 to 9 send the same few prompts for hours; each is 8 MB in a model of Wan's size."""
    run = rollout(tmp_path / "live", length=18, prompts=lines(line(0, 10))).run
    for chunk in run.chunks:
        run.controls.set_prompt("11" if chunk.index % 2 else "10" if chunk.index else "11")
    held = [given.embedding for given in run.state.settings.prompts.lines]
    assert len(held) > 4
    assert len({id(embedding) for embedding in held}) == 2
