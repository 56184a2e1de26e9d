"""Quantities in words."""

from __future__ import annotations

import pytest

from longtake.units import byte_size, count_of


@pytest.mark.parametrize(("count", "words"), [(0, "0 chunks"), (1, "1 chunk"), (2, "2 chunks")])
def test_one_thing_has_no_plural(count: int, words: str) -> None:
    assert count_of(count, "chunk") == words


@pytest.mark.parametrize(
    ("count", "words"), [(300_000, "0.3 MB"), (50 << 20, "50 MB"), (3 << 29, "1.5 GB")]
)
def test_bytes_have_the_unit_that_suits_them(count: int, words: str) -> None:
    assert byte_size(count) == words
