"""`longtake bench caching` on small shots: what it counts, and against what it compares."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from longtake.benchmarks._shared.report import Results
from longtake.benchmarks.caching.__main__ import command
from longtake.benchmarks.caching.suite import (
    FEWER,
    LIKENESS,
    RIGHT,
    SHARE,
    THRESHOLDS,
    TIME,
    Shot,
    add_gains,
    cases_of,
)


@pytest.mark.parametrize("steps", FEWER)
def test_every_case_is_cheaper_than_its_reference(steps: int) -> None:
    cases = cases_of(steps)
    cached = [case for case in cases.values() if case.feature_caching]
    plain = [case for case in cases.values() if not case.feature_caching]
    assert [case.feature_caching.threshold for case in cached] == [*THRESHOLDS]
    assert all(case.steps == steps for case in cached)
    assert all(a.steps > b.steps for a, b in pairwise(plain)) and plain[0].steps < steps


def test_a_shot_is_compared_with_its_reference() -> None:
    grey, other = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.6)
    row = Shot(other, 30, 1.0, 0.8).against(Shot(grey, 40, 4.0, 1.0))
    assert row[SHARE] == 0.75 and row[TIME] == 0.25 and row[RIGHT] == 0.8
    assert row[LIKENESS] == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(("better", "holds"), [(3.0, True), (-3.0, False)])
def test_caching_is_judged_beside_the_cheapest_plain_shot_that_costs_no_less(
    better: float, holds: bool
) -> None:
    plain = {f"{steps} steps": {SHARE: steps / 20, LIKENESS: 30.0} for steps in FEWER[20]}
    rows = [
        {f"cached {t:g}": {SHARE: 0.5, LIKENESS: 30 + better} for t in THRESHOLDS} | plain
        for _ in range(3)
    ]
    results = Results("caching")
    add_gains(results, 20, rows)
    assert len(results.claims) == len(THRESHOLDS)
    assert all("over 12 steps" in claim.text for claim in results.claims)
    assert all(claim.holds == holds for claim in results.claims)


@pytest.mark.slow
def test_the_command_measures_the_demo(tmp_path: Path) -> None:
    path = tmp_path / "caching.json"
    words = ["--steps", "20", "--shots", "1", "--latents", "6", "--json", str(path)]
    run = CliRunner().invoke(command, words)
    assert run.exit_code == 0, run.output
    assert path.is_file() and "cached 0.3" in run.output
