"""Which combinations of a test's parameters the fast suite runs: enough to meet each value once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

Value = tuple[str, int]
"""A parameter's name, and its value by identity: some values have no equality."""


def mark_rest_slow(items: Iterable[pytest.Item]) -> None:
    """Mark as slow the combinations that tests with the mark `each_value` can do without."""
    tests: defaultdict[str, list[Any]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("each_value") and hasattr(item, "callspec"):
            tests[item.nodeid.partition("[")[0]].append(item)
    for combinations in tests.values():
        needed = cover([_values(item.callspec.params) for item in combinations])
        for place, item in enumerate(combinations):
            if place not in needed:
                item.add_marker(pytest.mark.slow)


def mark_all_but_some_slow(items: Iterable[pytest.Item]) -> None:
    """Of tests with the mark `some_cases`, mark as slow all cases but as many as it says.

    Those that stay are spread evenly over the cases that are not slow already.
    """
    tests: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("some_cases") and not item.get_closest_marker("slow"):
            tests[item.nodeid.partition("[")[0]].append(item)
    for cases in tests.values():
        mark = cases[0].get_closest_marker("some_cases")
        assert mark is not None
        needed = spread(len(cases), *mark.args)
        for place, item in enumerate(cases):
            if place not in needed:
                item.add_marker(pytest.mark.slow)


def spread(cases: int, count: int) -> set[int]:
    """Return the places of `count` cases, the first one among them, or of all."""
    return {place * cases // count for place in range(count)}


def cover(combinations: Sequence[frozenset[Value]]) -> set[int]:
    """Return the places of combinations that hold each value, those with most new ones first."""
    left = set[Value]().union(*combinations)
    chosen = set[int]()
    while left:
        best = max(range(len(combinations)), key=lambda place: len(combinations[place] & left))
        chosen.add(best)
        left -= combinations[best]
    return chosen


def _values(parameters: Mapping[str, object]) -> frozenset[Value]:
    return frozenset((name, id(value)) for name, value in parameters.items())
