"""The choice of combinations for the fast suite."""

from __future__ import annotations

import itertools

import pytest

from longtake.tests.support.samples import cover, spread


@pytest.mark.parametrize("sizes", [(1,), (5,), (2, 2), (21, 4), (3, 5, 2)])
def test_each_value_is_met_and_no_combination_is_without_need(sizes: tuple[int, ...]) -> None:
    combinations = [
        frozenset((str(axis), index) for axis, index in enumerate(indices))
        for indices in itertools.product(*map(range, sizes))
    ]
    chosen = cover(combinations)
    assert set().union(*(combinations[place] for place in chosen)) == set().union(*combinations)
    assert len(chosen) == max(sizes)


@pytest.mark.each_value
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("letter", ["a", "b"])
def test_the_fast_suite_leaves_out_what_repeats(
    letter: str, number: int, request: pytest.FixtureRequest
) -> None:
    marks = {mark.name for mark in request.node.iter_markers()}
    fast = {("a", 1), ("b", 2), ("a", 3)}
    assert ("slow" in marks) == ((letter, number) not in fast)


@pytest.mark.parametrize("cases", [1, 2, 7, 19])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_cases_that_stay_are_spread_evenly(cases: int, count: int) -> None:
    places = sorted(spread(cases, count))
    assert len(places) == min(cases, count) and places[0] == 0 and places[-1] < cases
    gaps = [b - a for a, b in itertools.pairwise([*places, cases])]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("number", [1, 2, pytest.param(3, marks=pytest.mark.slow), 4, 5])
def test_the_fast_suite_leaves_out_all_cases_but_some(
    number: int, request: pytest.FixtureRequest
) -> None:
    marks = {mark.name for mark in request.node.iter_markers()}
    assert ("slow" in marks) == (number not in {1, 4})
