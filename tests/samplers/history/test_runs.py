"""Runs of neighbours against every choice there is."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.samplers.history.runs import best_runs
from longtake.tests.support.laws import examples


@examples(100)
@given(st.lists(st.integers(0, 9), max_size=9), st.integers(1, 9))
def test_one_run_has_the_greatest_sum_and_of_equals_is_the_newest(
    scores: list[int], frames: int
) -> None:
    chosen = best_runs(scores, frames, 1)
    count = min(frames, len(scores))
    assert len(chosen) == count
    every = [list(at) for at in combinations(range(len(scores)), count)
             if not at or at[-1] - at[0] == count - 1]  # fmt: skip
    best = max(sum(scores[i] for i in run) for run in every)
    assert chosen == [run for run in every if sum(scores[i] for i in run) == best][-1]


@examples(100)
@given(st.lists(st.floats(0, 1), max_size=20), st.integers(1, 9), st.integers(1, 4))
def test_runs_never_hold_a_frame_twice_nor_more_than_there_are(
    scores: list[float], frames: int, runs: int
) -> None:
    chosen = best_runs(scores, frames, runs)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= min(frames, len(scores))
    gaps = sum(b - a > 1 for a, b in zip(chosen, chosen[1:], strict=False))
    assert gaps < runs


@pytest.mark.parametrize(
    ("runs", "expected"), [(1, [1, 2, 3, 4]), (2, [2, 3, 8, 9]), (4, [2, 3, 8, 9])]
)
def test_two_runs_take_both_peaks(runs: int, expected: list[int]) -> None:
    assert best_runs([0, 1, 5, 5, 1, 0, 0, 0, 4, 4, 0], 4, runs) == expected


def test_runs_at_one_peak_lie_side_by_side() -> None:
    """The second-best places overlap the first run; the next free ones are taken."""
    assert best_runs([0, 1, 5, 6, 5, 1, 0, 0], 4, 2) == [1, 2, 3, 4]
    assert best_runs([0, 1, 5, 6, 5, 1, 0, 0], 5, 2) == [2, 3, 4, 5, 6]
