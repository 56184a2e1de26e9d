"""The results of `bench wear`: every case's figures, and what its rule changes, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from ...training.evaluation.estimate import Estimate, estimate
from .._shared.measures import Measurement
from .._shared.report import Claim, write

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "adherence": True,
    "adherence, last tenth": True,
    "colour drift": False,
    "colour error, last tenth": False,
    "contrast drift": False,
    "motion change": False,
    "missing ball": False,
    "doubled ball": False,
    "seam": False,
    "revisit agreement": True,
    "agreement after turns": True,
}
"""The measures that are judged. Motion by itself is neither good nor bad."""
POINT = 0.01
SHARES = (
    "adherence", "adherence, last tenth", "missing ball", "doubled ball", "revisit agreement",
)  # fmt: skip
"""The measures that no rule may worsen by more than a point on the shipped model."""
MIN_JUDGED = 4  # rollouts: fewer give no useful interval
Rollouts = Mapping[int, Measurement]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a case changes against another over the same seeds, by measure."""

    case: str
    less: str
    figures: Mapping[str, Estimate]
    verdicts: Mapping[str, str]


@dataclass(slots=True)
class WearResults:
    """Figures, samples by seed and differences of every case, by the case's name.

    `omitted` says why a situation was not measured, `not_judged` which claims have too few
    rollouts.
    """

    plan: object
    made_with: dict[str, Mapping[str, object]] = field(default_factory=dict)
    suite: str = "wear"
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    samples: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    not_judged: dict[str, str] = field(default_factory=dict)
    omitted: dict[str, str] = field(default_factory=dict)

    def add(self, case: str, rollouts: Rollouts) -> None:
        """Add a case, if it has rollouts."""
        if rollouts:
            self.samples[case] = {seed: dict(one.figures) for seed, one in rollouts.items()}
            self.figures[case] = {
                name: estimate(values) for name, values in _columns(self.samples[case]).items()
            }

    def compare(self, case: str, less: str) -> Difference | None:
        """Add the difference between two cases over the seeds that both have."""
        more, fewer = (self.samples.get(name, {}) for name in (case, less))
        rows = {
            seed: {name: row[name] - fewer[seed][name] for name in row if name in fewer[seed]}
            for seed, row in more.items()
            if seed in fewer
        }
        if not rows:
            return None
        figures = {name: estimate(values) for name, values in _columns(rows).items()}
        verdicts = {name: verdict(name, change) for name, change in figures.items()}
        difference = Difference(case, less, figures, verdicts)
        self.differences.append(difference)
        return difference

    def claim_no_harm(self, difference: Difference) -> None:
        """Claim that no share of the case is worse by more than one point."""
        for name in SHARES:
            change = difference.figures.get(name)
            if change is not None:
                worse = -change.low if HIGHER_IS_BETTER[name] else change.high
                text = f"{difference.case}: {name} no worse by more than a point"
                self._claim(text, worse, POINT, change.clips)

    def claim_half_drift(self, case: str, default: str) -> None:
        """Claim that half of the default's colour drift is gone, seed by seed."""
        ours, theirs = (self.samples.get(name, {}) for name in (case, default))
        left = [
            ours[s]["colour drift"] - theirs[s]["colour drift"] / 2 for s in ours if s in theirs
        ]
        if left:
            text = f"{case}: half of the colour drift is gone"
            self._claim(text, estimate(left).high, 0.0, len(left))

    def save(self, path: Path) -> None:
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        """Print a line for every figure and difference, then the claims."""
        for case, figures in self.figures.items():
            for name, value in figures.items():
                console.print(f"{case:44} {name:26} {value}  n={value.clips}", highlight=False)
        for change in self.differences:
            label = f"{change.case} less {change.less}"
            for name, value in change.figures.items():
                line = f"{label:72} {name:26} {value}  n={value.clips}  {change.verdicts[name]}"
                console.print(line, highlight=False)
        for claim in self.claims:
            word = "[green]holds[/]" if claim.holds else "[red]FAILS[/]"
            console.print(f"{word} {claim.text}: {claim.bound:.3f} (limit {claim.limit:g})")
        for text, why in {**self.not_judged, **self.omitted}.items():
            console.print(f"[yellow]{text}[/]: {why}", highlight=False)

    def _claim(self, text: str, bound: float, limit: float, rollouts: int) -> None:
        if rollouts < MIN_JUDGED:
            self.not_judged[text] = f"not judged: {rollouts} rollout{'s' * (rollouts != 1)}"
        else:
            self.claims.append(Claim(text, bound, limit, bound <= limit))


def verdict(name: str, change: Estimate) -> str:
    """Say whether a change is better or worse on its interval's bound."""
    if name not in HIGHER_IS_BETTER or change.clips < MIN_JUDGED:
        return "not judged"
    if change.low <= 0 <= change.high:
        return "no difference shown"
    return "better" if (change.low > 0) == HIGHER_IS_BETTER[name] else "worse"


def _columns(rows: Mapping[int, Mapping[str, float]]) -> dict[str, list[float]]:
    """Return each measure's values. A rollout may lack some, as that of a white ball does."""
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {name: [row[name] for row in rows.values() if name in row] for name in names}
