"""Measures all memories clip by clip, then what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from ...training.evaluation.estimate import Estimate, estimate
from .._shared.demo import demo_weights
from .._shared.measures import Measurement
from .._shared.paired import Interval
from .._shared.records import FOREVER, Job, Records
from .._shared.report import write
from .clips import measure_clip
from .costs import LENGTHS, planned_megabytes, times_of_window
from .memories import WINDOW, Memory, kit_of, memories, print_of


@dataclass(frozen=True, slots=True)
class StatesPlan:
    """Weights of the state and of the recurrent network, clips, rounds of timing, and workers.

    Without weights their rows are left out. `record` is a file with finished clips.
    """

    delta: Path | None = None
    recurrent: Path | None = None
    clips: int = 16
    rounds: int = 9
    workers: int = 1
    record: Path | None = None

    def rows(self) -> Mapping[str, Memory]:
        """All memories whose weights are there, by name."""
        return memories(self.delta, self.recurrent)

    def cases(self) -> dict[str, Memory]:
        """The same by the names under which clips are kept; weights are a part of them."""
        return {f"{name}{print_of(row.weights)}": row for name, row in self.rows().items()}


@dataclass(slots=True)
class StatesResults:
    """Figures by memory, their differences from the demo's window, megabytes and times."""

    plan: object
    made_with: Mapping[str, object]
    suite: str = "states"
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    differences: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    megabytes: dict[str, dict[int, float]] = field(default_factory=dict)
    times: dict[int, dict[str, Interval]] = field(default_factory=dict)

    def add(
        self, name: str, clips: Mapping[int, Measurement], window: Mapping[int, Measurement]
    ) -> None:
        """Add a memory's means, and how they differ from the window's, clip by clip."""
        rows = {seed: clip.figures for seed, clip in clips.items()}
        self.figures[name] = {key: estimate([row[key] for row in rows.values()])
                              for key in next(iter(rows.values()))}  # fmt: skip
        if name != WINDOW:
            pairs = [(row, window[seed].figures) for seed, row in rows.items() if seed in window]
            self.differences[name] = {
                key: estimate([ours[key] - theirs[key] for ours, theirs in pairs])
                for key in self.figures[name]
            }

    def publish(self, json_path: Path | None) -> None:
        """Show the results, and save them to `json_path` if given."""
        console = Console(soft_wrap=True)
        for title, table in (("", self.figures), ("less the window: ", self.differences)):
            for name, figures in table.items():
                for key, value in figures.items():
                    console.print(f"{name:24} {title}{key:28} {value}", highlight=False)
        for name, by_length in self.megabytes.items():
            for length, size in by_length.items():
                console.print(f"{name:24} {length:6} latent frames {size:9.2f} MB", highlight=False)
        for length, ratios in self.times.items():
            for name, ratio in ratios.items():
                text = f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
                console.print(f"{name:24} {length:6} latent frames {text} times", highlight=False)
        if json_path is not None:
            write(json_path, asdict(self))


def main(json_path: Path | None) -> None:
    """Run the suite with the demo's windows alone."""
    measure(StatesPlan()).publish(json_path)


def measure(plan: StatesPlan) -> StatesResults:
    """Measure every clip that is not recorded yet, then the costs."""
    records = Records(plan.record, {"suite": "states", "weights": list(demo_weights())})
    jobs = records.missing([*plan.cases()], range(plan.clips))
    records.complete(partial(measure_job, plan), jobs, plan.workers, FOREVER)
    results = StatesResults(asdict(plan), records.made_with)
    window = _first(records.of(WINDOW), plan.clips)
    for case, name in zip(plan.cases(), plan.rows(), strict=True):
        results.add(name, _first(records.of(case), plan.clips), window)
    for name, memory in plan.rows().items():
        results.megabytes[name] = {n: planned_megabytes(memory, n) for n in LENGTHS}
    if plan.rounds:
        results.times = {n: times_of_window(plan.rows(), n, plan.rounds) for n in LENGTHS}
    return results


def measure_job(plan: StatesPlan, job: Job) -> Measurement:
    """Measure one clip with one memory."""
    case, seed = job
    memory = plan.cases()[case]
    return measure_clip(kit_of(memory.weights), seed, memory.recipe)


def _first(clips: Mapping[int, Measurement], count: int) -> dict[int, Measurement]:
    return {seed: clip for seed, clip in clips.items() if seed < count}
