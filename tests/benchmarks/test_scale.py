"""The simulation of many workers notices what it looks for."""

from __future__ import annotations

from typing import Any

import pytest

from longtake.benchmarks.scale import judge
from longtake.headless.leases.queue import Ending, LeaseQueue
from longtake.headless.leases.simulation import ScalePlan, main, simulate_batch

SMALL = ScalePlan(rows=60, workers=8, dying=0.2)
GOOD: dict[str, Any] = {
    "runs": 70, "deaths": 9, "simulated_s": 600.0, "driver_s": 0.5, "resident": [100, 110],
    "lost": 0, "ended_twice": 0,
}  # fmt: skip


def test_every_row_ends_once_though_workers_die() -> None:
    course = simulate_batch(SMALL)
    assert course.deaths and course.runs > SMALL.rows
    assert course.lost == 0
    assert set(course.ends.values()) == {1}


def test_rows_that_end_twice_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    end = LeaseQueue.end

    def unfenced(self: LeaseQueue, lease_id: str, ending: Ending, now: float) -> bool:
        end(self, lease_id, ending, now)
        return True

    monkeypatch.setattr(LeaseQueue, "end", unfenced)
    monkeypatch.setattr(LeaseQueue, "renew", lambda self, lease_id, now: True)
    assert max(simulate_batch(SMALL).ends.values()) > 1


@pytest.mark.parametrize(
    ("fault", "claim"),
    [
        ({"lost": 1}, "rows lost"), ({"ended_twice": 1}, "rows that ended twice"),
        ({"driver_s": 60.0}, "rows a second"),
        ({"resident": [100, 200]}, "resident memory, end over start"),
    ],
)  # fmt: skip
def test_each_fault_breaks_its_claim(fault: dict[str, Any], claim: str) -> None:
    assert all(claim.holds for claim in judge(60, 8, GOOD).claims)
    assert [c.text for c in judge(60, 8, GOOD | fault).claims if not c.holds] == [claim]


def test_the_course_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main("20", "4", "0.1", "0")
    assert '"ended_twice": 0' in capsys.readouterr().out
