"""The choice of combinations for the fast suite."""

from __future__ import annotations

import itertools

import pytest

from longtake.tests.support.samples import cover


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
