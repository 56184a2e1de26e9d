"""Plan and results of the benches of long rollouts, and the measuring loop between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from ...errors import BadInput
from ...model.preset import DEMO, DEMO_FOLDER
from ...training.evaluation.estimate import Estimate, estimate
from .._shared.measures import Measurement
from .._shared.records import Job, Records
from .._shared.report import Claim, write
from .tenths import ends, show, tenths

TRUTH = "truth"
MIN_TRUTHS = 8  # clips of truth: their spread is the unit of a rollout's error
MIN_LATENTS = 120  # every tenth needs a whole segment
MIN_JUDGED = 4  # rollouts: fewer give no useful interval


@dataclass(frozen=True, slots=True)
class LongPlan:
    """Number, length and width of rollouts, worker processes and cases (empty: all).

    No rollout starts after `hours`. `record` is the file of finished rollouts.
    """

    rollouts: int
    latents: int
    width: int = DEMO.width
    workers: int = 1
    hours: float = float("inf")
    cases: tuple[str, ...] = ()
    record: Path | None = None
    folder: Path = DEMO_FOLDER

    def __post_init__(self) -> None:
        if self.latents < MIN_LATENTS or self.rollouts < 1:
            raise BadInput(
                f"a long bench needs at least 1 rollout of {MIN_LATENTS} latent frames; "
                f"got {self.rollouts} of {self.latents}."
            )

    @property
    def length(self) -> int:
        """Length in whole chunks, rounded down."""
        return self.latents // DEMO.chunk_frames * DEMO.chunk_frames


@dataclass(frozen=True, slots=True)
class Pair:
    """The difference between two cases' rollouts of the same prompts and noise."""

    case: str
    less: str
    figures: Mapping[str, Estimate]


@dataclass(slots=True)
class LongResults:
    """The results of a bench of long rollouts, by case.

    `tenths`: every measure of every tenth. `ends`: estimates of the first and last tenth.
    `samples`: the same for each rollout. `pairs`: differences between cases. `not_judged`: claims
    with too few rollouts.
    """

    suite: str
    plan: LongPlan
    made_with: Mapping[str, object]
    tenths: dict[str, dict[str, list[Estimate]]] = field(default_factory=dict)
    ends: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    seeds: dict[str, list[int]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    not_judged: dict[str, str] = field(default_factory=dict)

    def claim(self, text: str, of: Estimate, limit: float) -> None:
        """Claim that `of` is at least `limit`, judged on its lower bound.

        Fewer than MIN_JUDGED rollouts are not judged.
        """
        if of.clips < MIN_JUDGED:
            rollouts = f"{of.clips} rollout{'s' * (of.clips != 1)}"
            self.not_judged[text] = f"not judged: {rollouts}"
        else:
            self.claims.append(Claim(text, of.low, limit, of.low >= limit))

    def pair(self, case: str, less: str, measures: Sequence[str]) -> None:
        """Add the difference between two cases, rollout by rollout, where both were measured."""
        both = sorted({*self.seeds.get(case, ())} & {*self.seeds.get(less, ())})
        if not both:
            return
        figures = {}
        for measure in measures:
            more, fewer = (
                dict(zip(self.seeds[name], self.samples[name][measure], strict=True))
                for name in (case, less)
            )
            figures[measure] = estimate([more[seed] - fewer[seed] for seed in both])
        self.pairs.append(Pair(case, less, figures))

    def save(self, path: Path) -> None:
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        for name, figures in self.ends.items():
            show(console, name, figures)
        for pair in self.pairs:
            show(console, f"{pair.case} less {pair.less}", pair.figures)
        for claim in self.claims:
            word = "[green]holds[/]" if claim.holds else "[red]FAILS[/]"
            console.print(f"{word} {claim.text}: {claim.bound:.3f} (limit {claim.limit:g})")
        for text, why in self.not_judged.items():
            console.print(f"[yellow]{why}[/] {text}", highlight=False)


def run(
    suite: str,
    plan: LongPlan,
    cases: list[str],
    measure: Callable[[Job], Measurement],
    made_with: Mapping[str, object],
) -> LongResults:
    """Measure truth, then the plan's cases, seed by seed; compare every measured case with all
    truth.
    """
    records, seeds = Records(plan.record, made_with), range(plan.rollouts)
    until = time.monotonic() + 3600 * plan.hours
    truths = records.missing([TRUTH], range(max(plan.rollouts, MIN_TRUTHS)))
    todo = records.missing(plan.cases or cases, seeds)
    records.complete(measure, [*truths, *todo], plan.workers, until)
    results, truth = LongResults(suite, plan, made_with), [*records.of(TRUTH).values()]
    for name in cases:
        by_seed = records.of(name)
        measurements = [by_seed[seed] for seed in seeds if seed in by_seed]
        if not (measurements and truth):
            continue
        results.seeds[name] = [seed for seed in seeds if seed in by_seed]
        results.tenths[name], results.samples[name] = (
            tenths(measurements, truth),
            ends(measurements, truth),
        )
        results.ends[name] = {key: estimate(row) for key, row in results.samples[name].items()}
    return results
