"""The bench of whole runs: what its cases differ in, a real run, and how its claims are judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.benchmarks._shared import busy_core
from longtake.benchmarks._shared.busy_core import BusyPlan, Case, cases, measure_busy, run_once
from longtake.benchmarks._shared.report import Results


@pytest.mark.slow
def test_a_run_reports_its_speed_and_its_first_frame() -> None:
    report = run_once(cases(BusyPlan())["now"], seconds=0.5, seed=3)
    assert report["frames"] == 9 and report["frames_per_s"] > 0 < report["first_frame_s"]


def test_before_is_decoded_in_turn_and_may_be_another_checkout() -> None:
    known = cases(BusyPlan(before=Path("elsewhere")))
    assert {name: case.checkout for name, case in known.items()} == {
        "before": Path("elsewhere"), "one thread": Path("elsewhere"), "now": busy_core.ROOT,
    }  # fmt: skip
    assert dict(known["before"].environment) == {"LONGTAKE_DECODE_THREAD": "0"}
    assert dict(known["one thread"].environment)["OMP_NUM_THREADS"] == "1"
    assert [case.module for case in known.values()] == ["cli", "cli", "start"]


@pytest.mark.parametrize(
    ("now", "first", "holds"),
    [
        (40.0, 0.5, [True, True, True, True]),
        (30.0, 0.8, [False, True, False, False]),
        (10.0, 0.5, [False, False, True, True]),
    ],
)
def test_claims_compare_runs_of_one_round(
    monkeypatch: pytest.MonkeyPatch, now: float, first: float, holds: list[bool]
) -> None:
    runs: list[str] = []

    def fake_run(case: Case, seconds: float, seed: int) -> dict[str, float]:
        runs.append(case.module)
        mine = case.module == "start"
        return {"frames_per_s": now if mine else 25.0, "first_frame_s": first if mine else 0.4}

    monkeypatch.setattr(busy_core, "run_once", fake_run)
    results = Results("core")
    measure_busy(BusyPlan(rounds=3), results)
    assert [claim.holds for claim in results.claims] == holds
    assert len(runs) == 18 and runs[:6] == ["cli", "cli", "start"] * 2
    assert runs[6:9] == ["cli", "start", "cli"]  # the next round begins with another case
