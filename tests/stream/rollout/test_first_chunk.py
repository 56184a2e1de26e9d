"""A first chunk of one latent frame: resumed, edited, forked and extended at 0, 1, 4, 7 ..."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.samplers.conditioning.blend import Blend
from longtake.samplers.conditioning.known_frames import from_latents
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.guidance import NOISE, vanilla
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks, rolling
from longtake.stream.journal.chain import Chain, spans
from longtake.stream.rollout.fork import extend
from longtake.stream.rollout_file.recipe import from_record, to_record
from longtake.tests.support.stream.rollouts import (
    LONG_HISTORIES,
    assert_same_bits,
    cut_after,
    edit_fork,
    rollout,
)
from longtake.tests.support.tiny_model import TEXT_LEN, TINY, embedding, randn, settings, timeline

LADDER = flow_ladder(2, 3.0)
SHORT = replace(causal_chunks(LADDER, 3), first_frames=1)
PROMPTS = timeline(0, 4)
KINDS: dict[str, dict[str, Any]] = {
    "window": {"cache": WindowSink(5, 1), "guidance": vanilla(2.0, NOISE)},
    "rolling": {"schedule": replace(rolling(LADDER, 3), first_frames=1)},
    "bank of views": LONG_HISTORIES["recalled by view, sparse, int8"],
    "merged": LONG_HISTORIES["TempCache, merged, sparse"],
    "rules": LONG_HISTORIES["memory rules, anchored"],
}


def shot(folder: Path, **changes: Any) -> Any:
    return rollout(folder, **{"schedule": SHORT, "length": 10, "prompts": PROMPTS, **changes})


@pytest.mark.parametrize("snapshots", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_shot_resumes_after_every_chunk_with_the_same_bits(
    tmp_path: Path, kind: str, snapshots: int
) -> None:
    whole = list(shot(tmp_path / "whole", **KINDS[kind]).chunks)
    assert [chunk.first_frame for chunk in whole] == [0, 1, 4, 7]
    for cut in range(1, 4):
        chosen = {**KINDS[kind], "snapshot_chunks": snapshots}
        cut_after(shot(tmp_path / f"{cut}", **chosen), cut)
        again = shot(tmp_path / f"{cut}", **chosen)
        assert_same_bits(list(again.chunks), whole)
        assert again.resumed_from == cut


@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_at_every_chunk_is_a_fresh_run_of_its_settings(tmp_path: Path, kind: str) -> None:
    source = shot(tmp_path / "all", **KINDS[kind])
    for chunk in list(source.chunks):
        forked = {"prompts": None, **KINDS[kind]}
        made = edit_fork(chunk.first_frame).apply(source.settings)
        forked |= {name: getattr(made, name) for name in ("prompts", "seed", "seed_changes")}
        forked |= {name: getattr(made, name) for name in ("guidance", "guidance_changes")}
        shared = shot(tmp_path / "all", **forked)
        assert shared.spec.stored_chunks() == chunk.index
        fresh = list(shot(tmp_path / f"{chunk.index}", **forked).chunks)
        assert_same_bits(list(shared.chunks), fresh)


@pytest.mark.parametrize("over_s", [0.0, 1.5])
@pytest.mark.parametrize("index", [1, 2])
def test_an_edit_holds_from_the_next_chunk_on(tmp_path: Path, index: int, over_s: float) -> None:
    """The shot is that of the settings it leaves. A blend of 1.5 s takes two chunks."""
    live = shot(tmp_path / "live", length=13, prompts=timeline(0))
    source = iter(live.chunks)
    begun = [next(source) for _ in range(index)]
    live.controls.set_prompt("77", over_s)
    made = [*begun, *source]
    [edit] = live.controls.edits
    prompts = live.run.state.settings.prompts
    changed = [entry.start_frame for entry in prompts.entries if entry.text.startswith("77")]
    first = [0, 1, 4, 7, 10][index]
    assert edit.status == "applied" and changed[0] == first
    assert changed == ([first, first + 3, first + 6] if over_s else [first])
    assert_same_bits(list(shot(tmp_path / "plain", length=13, prompts=prompts).chunks), made)


def test_a_blend_is_made_of_parts_a_chunk_apart(tmp_path: Path) -> None:
    lines = (
        TimedPrompt(0, embedding(10), "10"),
        TimedPrompt(1, embedding(11), "11", blend=Blend(3, 2, 2)),
    )
    prompts = PromptTimeline(lines, torch.zeros(TEXT_LEN, TINY.text_dim))
    made = settings(SHORT, 10, prompts=prompts)
    assert [made.prompts.at(frame).start_frame for frame in (0, 3, 6, 9)] == [0, 1, 4, 7]
    assert len(list(shot(tmp_path, prompts=prompts).chunks)) == 4


def test_an_extension_ends_with_a_whole_chunk(tmp_path: Path) -> None:
    source = settings(SHORT, 4)
    assert [extend(source, end=4, more=more).length for more in (1, 3, 4)] == [7, 7, 10]
    assert extend(source, end=1, more=0).length == 1
    given = from_latents(randn(2, 4, 4, 6))
    assert extend(settings(SHORT, 5, known_frames=given), end=5, more=1).length == 8
    list(shot(tmp_path, length=4).chunks)
    longer = shot(tmp_path, length=10)
    assert longer.spec.stored_chunks() == 2
    assert_same_bits(list(longer.chunks), list(shot(tmp_path / "new").chunks))


def test_its_chunks_have_addresses_of_their_own() -> None:
    keys = {Chain(settings(s, 4), "model").key(0) for s in (SHORT, causal_chunks(LADDER, 3))}
    assert len(keys) == 2
    assert [span.first for span in spans(settings(SHORT, 11))] == [0, 1, 4, 7, 10]


def test_a_saved_rollout_keeps_it_and_older_ones_have_none() -> None:
    record, tensors = to_record(settings(SHORT, 7))
    assert from_record(record, tensors).schedule == SHORT
    del record["schedule"]["first_frames"]
    assert from_record(record, tensors).schedule == causal_chunks(LADDER, 3)
