"""The long bench detects periods, seams and growth, and a small version of the suite runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longtake.benchmarks._long.long_shot import STORAGES, LongShotPlan, ShotTrace
from longtake.benchmarks._shared.report import Results
from longtake.benchmarks._shared.trend import relative_slope
from longtake.benchmarks.long import (
    SEAM,
    _judge,
    measure,
    period_at,
    spread,
    step_at,
)

NOISE = np.random.default_rng(1).random(3000)


@pytest.mark.parametrize("growth", [0.0, 0.5, -0.3])
def test_a_slope_is_found_among_noise_and_outliers(growth: float) -> None:
    seconds = 1 + 0.1 * NOISE + growth * np.arange(3000) / 3000
    seconds[::50] *= 9  # somebody else's work
    slope = relative_slope(seconds.tolist())
    expected = growth / (1.05 + growth / 2)
    assert slope.low <= expected <= slope.high and abs(slope.median - expected) < 0.03


def test_a_period_at_the_window_is_seen_and_others_are_not() -> None:
    at = np.arange(3000)
    assert period_at((NOISE + (at % 21 == 0)).tolist(), 21) > 0.3
    assert abs(period_at((NOISE + np.sin(at / 40)).tolist(), 21)) < 0.05
    assert abs(period_at((NOISE + 2 * (at % 3 == 0)).tolist(), 21)) < 0.05  # of the chunks


def test_a_seam_is_seen() -> None:
    change = NOISE.copy()
    assert step_at(change.tolist()) < 2
    change[SEAM - 1] += 2
    assert step_at(change.tolist()) > 4


@pytest.mark.slow
def test_a_small_suite_makes_the_claims_of_the_long_one_and_resumes(tmp_path: Path) -> None:
    plan = LongShotPlan(latent_frames=30, window_frames=9, steps=1, record=tmp_path / "long.jsonl")
    results = measure(plan)
    assert len(results.claims) == 5 * len(STORAGES)
    assert any("memory" in claim.text for claim in results.claims)
    assert {len(one) for one in results.samples.values()} == {10}
    waiting = [claim for claim in results.claims if "not in the" in claim.text]
    assert len(waiting) == 2 * len(STORAGES) and all(claim.holds for claim in waiting)
    again = measure(plan)  # from the record, which has six digits
    assert again.samples.keys() == results.samples.keys()
    for name, values in results.samples.items():
        assert again.samples[name] == pytest.approx(values, rel=1e-5)


def test_growth_is_seen_beneath_fluctuation() -> None:
    held = 300 + 12 * (NOISE > 0.7)  # 4 % more in every third chunk
    assert spread(held) < 0.01
    assert 0.02 < spread(held + np.linspace(0, 9, 3000)) < 0.04


def test_waiting_chunks_and_growth_fail_their_claims() -> None:
    trace = ShotTrace(
        [1.0] * 100, [1.0] * 50 + [1.03] * 50, [5.0] * 100, [1.0] * 100, NOISE.tolist()
    )
    results = Results("long")
    _judge(results, "a", replace(trace, seconds=np.linspace(1, 1.2, 100).tolist()), LongShotPlan())
    failing = [claim.text for claim in results.claims if not claim.holds]
    assert failing == [
        "a: resident memory, most over least, - 1",
        "a: time per chunk does not grow (high bound)",
        "a: chunks made and not in the file yet",
        "a: chunks handed out and not in the journal",
    ]
