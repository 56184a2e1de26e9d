"""Laws of the drift meter: 0 for the same statistics, known values for known changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.stream.rollout.drift import REFERENCE_CHUNKS, WARN_ABOVE, DriftMeter
from longtake.tests.support.tiny_model import randn


def chunk(seed: int) -> Tensor:
    """Latents (f, c, h, w) with a mean and a deviation per channel."""
    spread = torch.tensor([0.5, 1.0, 2.0, 1.0]).view(-1, 1, 1)
    return 0.3 + spread * randn(3, 4, 8, 8, seed=seed)


def meter(*later: Tensor, prompt: str = "a ball") -> DriftMeter:
    """A meter with its reference and then the `later` chunks."""
    made = DriftMeter()
    for seed in range(REFERENCE_CHUNKS):
        made.chunk_done(chunk(seed), "a ball")
        assert made.value is None
    for latents in later:
        made.chunk_done(latents, prompt)
    return made


def reference() -> Tensor:
    return torch.cat([chunk(seed) for seed in range(REFERENCE_CHUNKS)])


def test_equal_statistics_are_no_drift() -> None:
    assert meter(reference()).value == pytest.approx(0, abs=1e-6)
    drift = meter(chunk(9)).value
    assert drift is not None and drift < 0.2 < WARN_ABOVE


def test_a_little_drift_is_measured_without_a_warning() -> None:
    calm, gone = meter(chunk(9)), meter(torch.zeros_like(chunk(9)))
    assert calm.value is not None and calm.warning is None
    assert gone.warning == gone.value and gone.value is not None


def test_drift_is_the_distance_of_means_and_deviations() -> None:
    later = 1.7 * chunk(9) - 0.4
    m, s = (f(later.double().numpy(), axis=(0, 2, 3)) for f in (np.mean, np.std))
    m0, s0 = (f(reference().double().numpy(), axis=(0, 2, 3)) for f in (np.mean, np.std))
    expected = math.sqrt(np.mean(((m - m0) / s0) ** 2 + np.log(s / s0) ** 2))
    assert meter(later).value == pytest.approx(expected)
    assert expected > WARN_ABOVE


def test_a_picture_that_fades_to_a_constant_has_finite_drift() -> None:
    faded = meter(torch.zeros(3, 4, 8, 8)).value
    assert faded is not None and math.isfinite(faded) and faded > WARN_ABOVE


def test_the_largest_drift_is_kept() -> None:
    made = meter(2 * chunk(9), reference())
    assert made.value == pytest.approx(0, abs=1e-6)
    assert made.largest is not None and made.largest > math.log(2) - 0.2


def test_another_prompt_starts_another_reference() -> None:
    made = meter(*(5 * chunk(seed) for seed in range(REFERENCE_CHUNKS)), prompt="a red ball")
    assert made.value is None
    made.chunk_done(5 * chunk(9), "a red ball")
    assert made.value is not None and made.value < 0.2
