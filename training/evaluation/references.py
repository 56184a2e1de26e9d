"""What the detectors of ball and edges read on decoded truth, and how often they err.

`calibrate_detectors` writes `detectors.json`; the measurements compare a rollout with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "detectors.json"
LIGHTS = ("terrain", "time", "weather")
"""The attributes on which the edges of a picture depend."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Readings of decoded truth.

    `fine_edges` is the mean by values of LIGHTS. `sharpness` is the fifth percentile of the ball's
    sharpness. `errors` are the shares of wrong readings by what was read, each of `pictures`.
    """

    fine_edges: Mapping[str, float]
    sharpness: float
    errors: Mapping[str, float]
    pictures: Mapping[str, int]

    def edges_of(self, values: Mapping[str, str]) -> float:
        """The mean of `fine_edges` where a world has attribute `values`."""
        return self.fine_edges[light_of(values)]


def light_of(values: Mapping[str, str]) -> str:
    """The name of the values on which edges depend."""
    return ", ".join(values[name] for name in LIGHTS)


@cache
def reference(file: Path = FILE) -> Reference:
    """Read the reference that calibration wrote."""
    return Reference(**json.loads(file.read_text(encoding="utf-8")))
