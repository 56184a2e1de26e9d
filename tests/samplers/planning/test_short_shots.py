"""Plans of shots that end before their schedule is in full swing, or before anything is made."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import CachePolicy, FullHistory, MemoryBank, WindowSink
from longtake.model.vace.module import MASK_CHANNELS
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames, from_latents
from longtake.samplers.control.stored import StoredControl
from longtake.samplers.control.video import ControlVideo
from longtake.samplers.feature_caching import FeatureCaching
from longtake.samplers.guidance import DROP, Guidance, last, temporal, vanilla
from longtake.samplers.planning.caching import describe_caching
from longtake.samplers.planning.chunk_rows import last_commit
from longtake.samplers.planning.memory import rollout_memory
from longtake.samplers.planning.rules import describe_rules
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import FarReading
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    NoiseSchedule,
    causal_chunks,
    full_sequence,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.tests.support.tiny_model import TINY, randn, settings, timeline

LADDER = flow_ladder(4, 1.0)


def working_bytes(schedule: NoiseSchedule, length: int | None, **changes: Any) -> int:
    """Planned for steps and commits, without the KV caches; frames of 96 tokens."""
    sides = {"rows": 16, "columns": 24, "prompts": timeline(0)}
    shot = settings(schedule, length, **{**sides, **changes})
    return rollout_memory(shot, TINY, torch.float32).working_bytes


@pytest.mark.parametrize("length", [4, 5, 7])
def test_all_frames_of_a_short_shot_are_in_work_at_once(length: int) -> None:
    """They join row by row, and the last ones before the first are clean."""
    together = working_bytes(full_sequence(LADDER), length)
    assert working_bytes(rolling(LADDER, 3), length) >= together


def test_the_fullest_row_of_a_chunk_is_planned() -> None:
    """Chunks start 1.5 rows after one another: two and three are in work by turns."""
    by_turns = working_bytes(pyramid(LADDER, 1.5), 21, cache=WindowSink(1))
    assert by_turns >= working_bytes(full_sequence(LADDER), 3)


def test_a_past_that_comes_with_the_second_chunk_is_seen_in_as_many_ways_as_guidance_says() -> None:
    seen = temporal(0.5, last(1))
    one, two = (working_bytes(trapezoid(LADDER), 9, guidance=g) for g in (Guidance(), seen))
    assert two > 1.5 * one


def test_an_endless_shot_of_more_frames_in_work_than_its_history_begins_with_has_a_plan() -> None:
    schedule = rolling(flow_ladder(10, 1.0), 8)
    sides = {"rows": 4, "columns": 6, "cache": FullHistory()}
    assert working_bytes(schedule, None, **sides) >= working_bytes(schedule, 80, **sides)


def test_views_share_a_pass_where_nothing_known_is_ahead() -> None:
    """Those without history see no known frame ahead, and are passed alone while there is one."""
    given = KnownFrame(11, randn(TINY.out_channels, 16, 24), lookahead=3)
    blind = {"guidance": vanilla(2.0, DROP), "cache": WindowSink(3)}
    known = working_bytes(causal_chunks(LADDER, 3), 18, known_frames=KnownFrames((given,)), **blind)
    assert known >= working_bytes(causal_chunks(LADDER, 3), 18, **blind)


@pytest.mark.parametrize("length", [11, 30, None])
@pytest.mark.parametrize("lag", [0.15, 0.3, 0.4, 0.45, 0.7, 0.97])
def test_the_largest_commit_is_planned(lag: float, length: int | None) -> None:
    """Where chunks start less than a row apart, one or another number becomes clean together."""
    shot = settings(pyramid(LADDER, lag), length, cache=WindowSink(2))
    finished = [row.finished for row in islice(shot.noise_rows(), 200) if row.finished]
    committed = last_commit(shot)
    assert committed is not None and committed[1] == max(finished[:-1])


@pytest.mark.parametrize("cache", [MemoryBank(3, 1, 4, 1), WindowSink(3, 1)])
def test_a_history_that_a_prompt_may_flush_is_planned_full(cache: CachePolicy) -> None:
    flushed, kept = (
        working_bytes(causal_chunks(LADDER, 1), 12, cache=cache, on_prompt_change=change)
        for change in ("flush", "keep")
    )
    assert flushed >= kept


@pytest.mark.parametrize("schedule", [full_sequence(LADDER), causal_chunks(LADDER, 3)])
def test_a_control_video_of_one_chunk_has_a_plan(schedule: NoiseSchedule) -> None:
    latents, masks = torch.zeros(3, 8, 4, 6), torch.ones(1, MASK_CHANNELS, 4, 6)
    control = ControlVideo(StoredControl(latents, masks, ("a", "b", "c")))
    shot, config = settings(schedule, 3, control=control), replace(TINY, control_blocks=2)
    plain = rollout_memory(settings(schedule, 3), TINY, torch.float32)
    planned = rollout_memory(shot, config, torch.float32)
    assert planned.kv_bytes == plain.kv_bytes and planned.working_bytes > plain.working_bytes


def test_a_shot_of_given_frames_alone_is_described() -> None:
    given = from_latents(randn(3, TINY.out_channels, 4, 6))
    shot = settings(
        length=3, known_frames=given, feature_caching=FeatureCaching(0.1),
        memory=MemoryRules(far=FarReading(2)),
    )  # fmt: skip
    assert describe_caching(shot) is None
    assert "far past" not in (describe_rules(shot, 2) or "") and describe_rules(shot, 2)
