"""Runs killed at random points, also inside writes, and resumed lose and repeat nothing.

Their bits are equal and the file is complete. The long version is `longtake bench crash`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longtake.benchmarks import crash
from longtake.benchmarks._long import kill
from longtake.benchmarks._long.kill import KINDS, WAYS, run_once
from longtake.benchmarks.crash import CrashPlan, Tally, kill_runs

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills as POSIX does")


@pytest.mark.some_cases(2)
@pytest.mark.each_value
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_anywhere_and_run_again_is_the_uninterrupted_one(kind: str, way: str) -> None:
    tally = kill_runs(kind, way, CrashPlan(kills=2, most_kills=2))
    assert tally.kills >= 2
    assert (tally.lost, tally.different, tally.torn) == (0, 0, 0)


@pytest.mark.slow
def test_points_are_in_the_middle_of_writes_too(tmp_path: Path) -> None:
    """A run dies with half a chunk in its temporary file, and the next run deletes this file."""
    folder = tmp_path / "journal"
    torn = 0
    for point in range(1, 40):
        if run_once(tmp_path, "causal", "replay", point).killed:
            sizes = {path.stat().st_size for path in folder.glob("*.tmp")}
            torn += bool(sizes - {0})
        if torn:
            break
    assert torn
    run_once(tmp_path, "causal", "replay", None)
    assert not list(folder.glob("*.tmp")) and crash.is_whole(tmp_path)


def test_the_suite_notices_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that forgets, or a loop that resumes wrongly, does not pass."""
    tally = Tally()
    whole = kill.Outcome(False, 4, 0, 100, "a", "b")
    monkeypatch.setattr(crash, "is_whole", lambda folder: False)
    before = kill.Outcome(True, 3, 0, 0)
    after = kill.Outcome(False, 4, 1, 90, "a", "c")
    crash._judge(tally, Path(), whole, [before, after])
    assert tally == Tally(runs=1, kills=1, lost=2, different=1, torn=1)
