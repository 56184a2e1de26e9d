"""A plan of any length is made at once, and is the one that a walk through the shot would make."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.attention.coarse.window import CoarseWindow
from longtake.attention.recall.window import RecallWindow
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import Unsupported
from longtake.samplers import guidance as g
from longtake.samplers.conditioning.known_frames import from_latents
from longtake.samplers.history import steady_state
from longtake.samplers.planning.cost import cost, histories_used, idle_views, peak_evaluations
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    StaggeredSchedule,
    full_sequence,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.laws import examples
from longtake.tests.support.samplers.guidance_cases import CASES
from longtake.tests.support.samplers.plan_walk import walk_evaluations, walk_history
from longtake.tests.support.tiny_model import TINY, randn, settings, timeline

A_DAY = 345_601  # latent frames at 16 frames a second
POLICIES: list[CachePolicy] = [
    FullHistory(), WindowSink(7), WindowSink(9, 2), AveragingSink(6, 3), RebuiltWindow(8, 1),
    MostAttended(6, 1), MemoryBank(6, 1, 2, 2), TempCache(5, sink_frames=1), TetherCache(6, 1),
    RecallWindow(8, 1, 3), DummyHeads(7, 1), CoarseWindow(8, 1, 3),
]  # fmt: skip
CUT = g.temporal(1.0, g.View(g.AgeRange(9, 99), exact=True))
GUIDANCES = [*(case[0] for case in CASES.values()), g.temporal(1.0, g.View(g.AgeRange(3, 11)))]


@st.composite
def shots(draw: st.DrawFn) -> RolloutSettings:
    """Small shots of every policy, schedule, guidance and beginning."""
    steps, origin, size = draw(st.integers(1, 4)), draw(st.integers(0, 5)), draw(st.integers(1, 4))
    lag, mirrored = draw(st.sampled_from((0.0, 0.3, 1.0, 1.5, math.inf))), draw(st.booleans())
    schedule = StaggeredSchedule(
        flow_ladder(steps, 3.0),
        size,
        lag,
        mirrored=mirrored,
        first_frames=draw(st.integers(0, size)) if lag >= 1 and not mirrored else 0,
    )
    known = from_latents(randn(origin, 4, 4, 6)) if origin else from_latents(randn(0, 4, 4, 6))
    chosen: dict[str, Any] = {
        "cache": draw(st.sampled_from(POLICIES)),
        "guidance": draw(st.sampled_from(GUIDANCES)),
        "known_frames": known,
        "prompts": timeline(0),
        "context_noise": draw(st.sampled_from((ContextNoise(), ContextNoise(0.1, fresh=True)))),
    }
    try:
        return settings(schedule, origin + draw(st.integers(1, 60)), **chosen)
    except Unsupported:
        reject()


@examples(500)
@given(shots())
def test_the_plan_of_a_chunk_is_what_a_walk_finds(shot: RolloutSettings) -> None:
    frames = steady_state.steady_state_frames(shot)
    history = walk_history(shot)
    assert [*frames] == [frame for frame, _ in history]
    assert [frames[rank] for rank in range(len(frames))] == [*frames]
    assert [steady_state.commit_start(shot, frame) for frame in frames] == [at for _, at in history]
    for first in range(len(frames)):
        part = frames[first : len(frames) - first // 2]
        assert [*part] == [*frames][first : len(frames) - first // 2]
        assert steady_state.count_commits(shot, part) == len(
            {steady_state.commit_start(shot, frame) for frame in part}
        )
    assert cost(shot, TINY, torch.float32).evaluations == walk_evaluations(shot, TINY)


@pytest.mark.parametrize(
    "chosen",
    [
        {"cache": FullHistory()},
        {"cache": FullHistory(), "context_noise": ContextNoise(0.1, fresh=True)},
        {
            "cache": FullHistory(),
            "guidance": g.temporal(1.0, g.View(g.AgeRange(9, 99), exact=True)),
        },
        {"cache": WindowSink(21, 3)},
        {"schedule": full_sequence(flow_ladder(50, 3.0))},
        {"schedule": trapezoid(flow_ladder(50, 3.0), 0.5)},
        {"schedule": rolling(flow_ladder(5, 3.0)), "prompts": timeline(0, 99, 99_999)},
        {"schedule": pyramid(flow_ladder(50, 3.0), 0.01), "guidance": g.vanilla(2.0)},
    ],
    ids=["full", "made anew", "cut", "window", "sequence", "trapezoid", "rolling", "hundredths"],
)
def test_the_cost_of_a_day_takes_no_longer_than_that_of_a_minute(
    chosen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in latent frames that are looked at."""
    shot = settings(length=A_DAY, **{"guidance": g.cfg(2.0), **chosen})
    looked_at = 0

    def count(work: int) -> None:
        nonlocal looked_at
        looked_at += work

    read = steady_state.HeldFrames.__getitem__
    monkeypatch.setattr(
        steady_state.HeldFrames, "__getitem__", lambda s, i: (count(1), read(s, i))[1]
    )
    monkeypatch.setattr(
        steady_state.HeldFrames, "__iter__", lambda s: pytest.fail("walks the history")
    )
    all_rows = StaggeredSchedule.rows

    def rows(*args: Any) -> Any:
        for row in all_rows(*args):
            count(len(row.frames))
            yield row

    monkeypatch.setattr(StaggeredSchedule, "rows", rows)
    all_parts = StaggeredSchedule.row_parts

    def row_parts(*args: Any) -> Any:
        for parts in all_parts(*args):
            count(len(parts))
            yield parts

    monkeypatch.setattr(StaggeredSchedule, "row_parts", row_parts)
    assert cost(shot, TINY, torch.float32).evaluations > 0
    assert peak_evaluations(shot, TINY, torch.float32) > 0
    assert histories_used(shot) and idle_views(shot) == []
    assert looked_at < 100_000
