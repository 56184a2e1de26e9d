"""Byte sizes read the same in nodes, command line and doctors."""

from __future__ import annotations

import pytest

from longtake.units import byte_size

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 MB"),
        (MIB // 2, "0.5 MB"),
        (12.8 * MIB, "13 MB"),
        (48 * MIB, "48 MB"),
        (GIB // 2, "0.5 GB"),
        (3 * GIB, "3.0 GB"),
    ],
)
def test_a_size_has_the_unit_that_suits_it(count: int, text: str) -> None:
    assert byte_size(count) == text
