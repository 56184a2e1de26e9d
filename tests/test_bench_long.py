"""The long bench's measures notice what they look for, and the suite runs in small."""

from __future__ import annotations

import numpy as np
import pytest

from longtake.benchmarks.long import (
    SEAM,
    STORAGES,
    Plan,
    measure,
    period_at,
    relative_slope,
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


def test_the_suite_in_small_claims_what_the_long_one_claims() -> None:
    results = measure(Plan(latent_frames=60, window_frames=9))
    assert len(results.claims) == 4 * len(STORAGES) and any(
        "2 %" in claim.text for claim in results.claims
    )
    assert len(next(iter(results.samples.values()))) == 20
