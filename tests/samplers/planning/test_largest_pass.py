"""Which row of a chunk has the largest pass: that with the most branches evaluated together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.samplers.guidance import (
    Guidance,
    GuidanceTiming,
    SkippedLayers,
    cfg,
    skip_in_negative,
    without_layers,
)
from longtake.samplers.loop import by_chunk
from longtake.samplers.planning.chunk_rows import fullest
from longtake.tests.support.tiny_model import settings

LOW = (0.0, 0.9)
LATE = replace(cfg(2.0), timing=GuidanceTiming(LOW))
NOT_AT_FIRST = replace(cfg(2.0), timing=GuidanceTiming(LOW, first_chunk=0.0))
OTHER_LAYERS = SkippedLayers((1,), LOW)


@pytest.mark.parametrize(
    ("guidance", "first", "largest"),
    [
        (Guidance(), 3, 0),
        (LATE, 3, 1),
        (replace(LATE, in_one_pass=False), 3, 0),
        (NOT_AT_FIRST, 3, 1),
        (NOT_AT_FIRST, 0, 0),
        (without_layers(1.0, OTHER_LAYERS), 3, 0),
        (skip_in_negative(LATE, OTHER_LAYERS), 3, 0),
    ],
    ids=["plain", "low levels", "one at a time", "later chunk", "first chunk", "own pass",
         "negative prompt's pass"],
)  # fmt: skip
def test_the_row_with_the_most_branches_in_a_pass(
    guidance: Guidance, first: int, largest: int
) -> None:
    """The chunk's rows have levels 1 and 0.75, and as many frames."""
    rows = next(by_chunk(settings().noise_rows(first)))
    assert [row.now[0] for row in rows] == [1.0, 0.75]
    assert fullest(rows, 1, guidance) == [rows[largest]]
