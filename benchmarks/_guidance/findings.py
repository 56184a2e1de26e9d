"""The findings of the guidance bench: means with intervals, differences from plain CFG,
distances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from ...training.evaluation.estimate import Estimate, estimate
from .._shared.measures import Features, Measurement, distance
from .._shared.records import Records
from .._shared.report import write

PLAIN, TRUTH, DISTANCE = "cfg", "truth", "distance to truth"
Rollouts = Sequence[Measurement]


@dataclass(slots=True)
class Findings:
    """Means with 95 % intervals by case and measure, and each rollout's own figures."""

    plan: object
    made_with: Mapping[str, object] = field(default_factory=dict)
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    against_plain: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    samples: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)

    def wider_than(self, half_width: float) -> list[str]:
        """Return the cases, except truth, whose mean adherence is not known to within
        `half_width`.
        """
        adherence = {
            name: figures["adherence"] for name, figures in self.figures.items() if name != TRUTH
        }
        return [name for name, mean in adherence.items() if mean.high - mean.low > 2 * half_width]

    def save(self, path: Path) -> None:
        write(path, {"suite": "guidance", **asdict(self)})

    def show(self, console: Console) -> None:
        for name, figures in self.figures.items():
            for key, value in figures.items():
                console.print(f"{name:24} {key:38} {value}  n={value.clips}", highlight=False)


def findings(plan: object, records: Records, cases: Sequence[str]) -> Findings:
    """Summarise each case over its own seeds, and differences over the seeds shared with plain CFG.

    A case needs two seeds.
    """
    result = Findings(plan, records.made_with)
    by_case = {case: records.of(case) for case in cases}
    known, plain = ([*by_case.get(name, {}).values()] for name in (TRUTH, PLAIN))
    for name, by_seed in by_case.items():
        rollouts = [*by_seed.values()]
        if len(rollouts) < 2:
            continue
        result.samples[name] = {seed: rollout.figures for seed, rollout in by_seed.items()}
        result.figures[name] = means([rollout.figures for rollout in rollouts])
        if name not in (PLAIN, TRUTH) and plain:
            result.against_plain[name] = differences(by_seed, by_case[PLAIN])
        others, truth = against(name, known, rollouts)
        if truth:
            result.figures[name][DISTANCE] = distance(others, truth)
    return result


def against(
    name: str, truth: Rollouts, rollouts: Rollouts
) -> tuple[list[Features], list[Features]]:
    """Return the two sides of a comparison: rollouts and all of truth, or the two halves of
    truth.
    """
    features, known = ([rollout.features for rollout in part] for part in (rollouts, truth))
    return (known[::2], known[1::2]) if name == TRUTH else (features, known)


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Estimate the mean of every measure."""
    return {key: estimate([row[key] for row in rows]) for key in rows[0]}


def differences(
    rollouts: Mapping[int, Measurement], plain: Mapping[int, Measurement]
) -> dict[str, Estimate]:
    """Estimate the difference of every measure from plain CFG, seed by seed.

    Both mappings have at least one seed.
    """
    pairs = [(rollouts[seed].figures, plain[seed].figures) for seed in rollouts if seed in plain]
    return means([{key: a[key] - b[key] for key in a} for a, b in pairs])
