"""The model card: intervals cover the mean, agreement is agreement, no figure is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longtake.tests.support.tiny_model import randn
from longtake.training.evaluate import QUICK, EvaluationJob, write_card
from longtake.training.evaluation.card import card
from longtake.training.evaluation.estimate import Estimate, estimate
from longtake.training.evaluation.kit import Recipe
from longtake.training.evaluation.measures import band_agreement, entering_agreement
from longtake.training.world.attributes import vocabulary


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [estimate(rng.normal(3.0, 1.0, 40).tolist()) for _ in range(60)]
    covered = sum(e.low <= 3.0 <= e.high for e in found)
    assert 0.85 <= covered / len(found) <= 1.0
    assert all(e.low <= e.mean <= e.high and e.clips == 40 for e in found)


def test_an_interval_of_equal_values_has_no_width() -> None:
    assert estimate([0.5] * 4) == Estimate(0.5, 0.5, 0.5, 4)


def test_an_interval_is_reproducible() -> None:
    values = [0.1, 0.9, 0.4]
    assert estimate(values) == estimate(values)


def test_identical_bands_agree_fully() -> None:
    picture = randn(3, 64, 96)
    assert band_agreement(picture, picture) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("shift", [-3, 2])
def test_a_small_shift_is_forgiven(shift: int) -> None:
    picture = randn(3, 64, 96)
    assert band_agreement(picture.roll(shift, -1), picture) > 0.95


def test_a_greater_shift_is_forgiven_within_a_greater_reach() -> None:
    picture = randn(3, 64, 96)
    assert band_agreement(picture.roll(9, -1), picture) < 0.3
    assert band_agreement(picture.roll(9, -1), picture, reach=12) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_bands_hardly_agree(seed: int) -> None:
    agreement = band_agreement(randn(3, 64, 96, seed=seed), randn(3, 64, 96, seed=10 + seed))
    assert abs(agreement) < 0.1


def test_values_constant_along_a_row_do_not_count() -> None:
    rows = randn(3, 64, 1).expand(-1, -1, 96)
    picture, other = randn(3, 64, 96, seed=1), randn(3, 64, 96, seed=2)
    assert band_agreement(picture + 10 * rows, other + 10 * rows) < 0.1


def test_a_card_has_every_figure_and_its_json_the_same(tmp_path: Path) -> None:
    (tmp_path / "dit.safetensors").write_bytes(bytes(1_500_000))
    results = {"adherence": {"ball": Estimate(0.9, 0.85, 0.95, 8)}}
    text = card(results, tmp_path, Recipe(), 120.0)
    assert "## adherence" in text and "| ball | 0.900 | 0.850 to 0.950 | 8 |" in text
    assert "dit.safetensors 1.50 MB" in text and f"{len(vocabulary())} words" in text
    job = EvaluationJob(tmp_path, QUICK, 1, Recipe())
    write_card(results, job, tmp_path / "out", 120.0)
    figures = json.loads((tmp_path / "out" / "card.json").read_text())
    assert figures == {"adherence": {"ball": {"mean": 0.9, "low": 0.85, "high": 0.95, "clips": 8}}}
    assert (tmp_path / "out" / "card.md").read_text() == text


def test_clips_are_numbered_from_the_seed(tmp_path: Path) -> None:
    assert list(EvaluationJob(tmp_path, QUICK, 1, Recipe(), seed=5).clips(3)) == [5, 6, 7]


def test_entering_scenery_is_in_the_last_columns_of_the_band() -> None:
    picture, other = randn(3, 64, 96), randn(3, 64, 96, seed=1)
    other[:, 16:46, -12:] = picture[:, 16:46, -12:]
    assert entering_agreement(other, picture) == pytest.approx(1.0, abs=1e-4)
    other[:, 16:46, -12:] = -picture[:, 16:46, -12:]
    assert entering_agreement(other, picture) == pytest.approx(-1.0, abs=1e-4)
