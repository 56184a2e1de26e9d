"""The results of `bench ladder`: every rung's figures, and how they differ from the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from ...training.evaluation.estimate import Estimate, estimate
from .._shared.measures import FEWEST, Measurement, distance
from .._shared.paired import Interval
from .._shared.report import Claim, write

SHARES: Mapping[str, bool] = {
    "adherence": True,
    "right in the first chunk": True,
    "after a switch": True,
    "ball missing or faint": False,
    "ball doubled": False,
    "ball blurred": False,
    "smeared": False,
    "revisit agreement": True,
    "recall": True,
    "live camera": True,
    "live camera, speed off": False,
    "right, early less late": False,
}
"""The measures that are judged, and whether higher is better."""
POINTS = 0.02
TO_TRUTH = "distance to truth"
Shots = Mapping[int, Measurement]


@dataclass(slots=True)
class LadderResults:
    """Figures and differences by rung; speeds are ratios to the demo's default."""

    plan: object
    made_with: Mapping[str, object]
    suite: str = "ladder"
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    samples: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    differences: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    speeds: dict[str, Interval] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def add(self, rung: str, shots: Shots, truth: Shots, long: Shots) -> None:
        """Add a rung's shots and its long shots; of enough shots, the distance to `truth` too."""
        self.samples[rung] = {
            seed: shot.figures | (long[seed].figures if seed in long else {})
            for seed, shot in shots.items()
        }
        self.figures[rung] = _estimates(self.samples[rung])
        if min(len(shots), len(truth)) >= FEWEST:
            segments = ([shot.features for shot in of.values()] for of in (shots, truth))
            self.figures[rung][TO_TRUTH] = distance(*segments)

    def compare(self, rung: str, reference: str) -> None:
        """Add what a rung changes, seed by seed, and claim that no share is worse by two points."""
        theirs = self.samples[reference]
        rows = {
            seed: {name: row[name] - theirs[seed][name] for name in SHARES if name in row}
            for seed, row in self.samples[rung].items()
            if seed in theirs
        }
        self.differences[rung] = _estimates(rows)
        for name, change in self.differences[rung].items():
            worse = -change.low if SHARES[name] else change.high
            text = f"{rung}: {name} within two points of {reference}"
            self.claims.append(Claim(text, worse, POINTS, worse <= POINTS))

    def save(self, path: Path) -> None:
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        """Print a line for every figure, difference and speed, then the claims."""
        for rung, figures in self.figures.items():
            for name, value in figures.items():
                console.print(f"{rung:22} {name:28} {value}  n={value.clips}", highlight=False)
        for rung, figures in self.differences.items():
            for name, value in figures.items():
                console.print(f"{rung:22} less reference: {name:28} {value}", highlight=False)
        for name, ratio in self.speeds.items():
            interval = f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
            console.print(f"{name:44} {interval} times", highlight=False)
        for claim in self.claims:
            word = "[green]holds[/]" if claim.holds else "[red]FAILS[/]"
            console.print(f"{word} {claim.text}: {claim.bound:.3f} (limit {claim.limit:g})")


def _estimates(rows: Mapping[int, Mapping[str, float]]) -> dict[str, Estimate]:
    """The mean of each measure over the shots that have it."""
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {n: estimate([row[n] for row in rows.values() if n in row]) for n in names}
