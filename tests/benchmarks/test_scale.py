"""The simulation of many workers notices what it looks for."""

from __future__ import annotations

import pytest

from longtake.benchmarks import scale
from longtake.benchmarks.scale import ScalePlan, measure
from longtake.headless.leases.queue import Ending, LeaseQueue

SMALL = ScalePlan(rows=60, workers=8, dying=0.2)


def failures(plan: ScalePlan) -> set[str]:
    """The claims that do not hold, but for speed and memory, which so few rows do not show."""
    claims = measure(plan).claims
    return {claim.text for claim in claims if not claim.holds and claim.text.startswith("rows ")}


def test_every_row_ends_once_though_workers_die(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MIN_ROWS_PER_S", 0.0)
    results = measure(SMALL)
    assert failures(SMALL) == set()
    assert "died" in results.notes["course"]


def test_rows_that_end_twice_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MIN_ROWS_PER_S", 0.0)
    end = LeaseQueue.end

    def unfenced(self: LeaseQueue, lease_id: str, ending: Ending) -> bool:
        end(self, lease_id, ending)
        return True

    monkeypatch.setattr(LeaseQueue, "end", unfenced)
    monkeypatch.setattr(LeaseQueue, "renew", lambda self, lease_id, now: True)
    assert "rows that ended twice" in failures(SMALL)
