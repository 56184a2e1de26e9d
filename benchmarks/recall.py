"""`longtake bench recall`: which memory shows scenery as it was, when the camera comes back?

In the embedded model's world the camera turns back after 48 or 128 latent frames. Half of the way
back the model makes one chunk after a true history; what enters left the picture 48 or 128 latent
frames ago. The memories have the resident bytes of a window of 21 latent frames, all but the full
history. Those that recall hold the newest 12 and fetch 9 of the past: by view the run that saw most
of what the chunk will see, by content the run beside past frames that look like the newest. All
memories hold the keys and values that a full history gives; rows *as served* run the sampling loop,
whose commits see no more than the memory; in rows of *the whole way back* the model makes all of
that itself, so that its errors stay in the history. Agreement is the correlation of the entering
columns with the truth, and over the whole way back that of the third of the picture where scenery
enters. Figures are means over clips with 95 % bootstrap intervals, differences are within clips.

    python -m longtake.benchmarks.recall --away 48 --clips 8 --record R --json F --plot PNG

runs a part; with --record a stopped run continues.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from ..model.checkpoint import read
from ..model.fingerprint import fingerprint
from ..model.preset import DEMO_FOLDER
from ..training.command import reporting
from ..training.evaluation.estimate import Estimate, estimate
from ..training.evaluation.kit import Kit, load_kit
from ..training.evaluation.returns import OFF, TRUTH, half_way
from ._recall.memories import (
    CONTENT,
    RANDOM_RUN,
    TEMP,
    VIEW,
    WINDOW,
    held_figures,
    served_figures,
    whole_figures,
)
from ._recall.plot import draw
from ._shared.measures import Measurement
from ._shared.records import FOREVER, Job, Records
from ._shared.report import Claim, write

AWAY, CLIPS, FEW = (48, 128), 24, 8
MIN_CLIPS = 5  # fewer clips carry no claim
SERVED, WHOLE = ", as served", ", the whole way back"
RECALLING = (VIEW, CONTENT)
OTHERS = (WINDOW, TEMP, RANDOM_RUN)
"""What a memory that recalls, by view or by content, has to beat."""
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class RecallPlan:
    """Latent frames before each turn of the camera, and clips of each; none after `minutes`.

    Rows as served, which take their own commits, get at most FEW clips and come last.
    """

    away: tuple[int, ...] = AWAY
    clips: int = CLIPS
    minutes: float = FOREVER
    record: Path | None = None

    @property
    def turns(self) -> list[str]:
        """The rows with all memories, one for each turn."""
        return [str(half_way(away)) for away in self.away]

    @property
    def served(self) -> list[str]:
        """The rows in which the sampling loop makes commits, then those of the whole way back."""
        return [f"{turn}{end}" for end in (SERVED, WHOLE) for turn in self.turns]

    def away_of(self, case: str) -> int:
        """The latent frames before the turn of a row."""
        return next(away for away in self.away if case.startswith(str(half_way(away))))


@dataclass(slots=True)
class RecallResults:
    """Agreement, megabytes and frames recalled by row, differences within clips, and claims."""

    suite: str = "recall"
    weights: list[str] = field(default_factory=list)
    figures: dict[str, Estimate] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def publish(self, json_path: Path | None) -> None:
        """Show the results, and save them to `json_path` if given."""
        console = Console(soft_wrap=True)
        for name, figure in {**self.figures, **self.differences}.items():
            console.print(f"{name:56} {figure}  n={figure.clips}", highlight=False)
        for claim in self.claims:
            word = "[green]holds[/]" if claim.holds else "[red]FAILS[/]"
            console.print(f"{word} {claim.text}: {claim.bound:.3f}", highlight=False)
        if json_path is not None:
            write(json_path, asdict(self))


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    measure(RecallPlan()).publish(json_path)


def measure(plan: RecallPlan) -> RecallResults:
    """Measure every clip that is not recorded yet, then summarise all clips."""
    weights = [fingerprint(read(file)[0]) for file in sorted(DEMO_FOLDER.glob("*.safetensors"))]
    records = Records(plan.record, {"suite": "recall", "weights": weights})
    jobs = records.missing(plan.turns, range(plan.clips))
    jobs += records.missing(plan.served, range(min(FEW, plan.clips)))
    until = time.monotonic() + 60 * plan.minutes
    records.complete(partial(measure_clip, plan), jobs, 1, until)
    results = RecallResults(weights=weights)
    for case in (*plan.turns, *plan.served):
        rows = [clip.figures for clip in records.of(case).values()]
        if rows:
            summarise(results, case, rows)
    return results


@cache
def _kit() -> Kit:
    """Load the demo model once per process."""
    return load_kit(DEMO_FOLDER)


def measure_clip(plan: RecallPlan, job: Job) -> Measurement:
    """Measure one clip with all memories."""
    case, seed = job
    ends = {SERVED: served_figures, WHOLE: whole_figures}
    figures = next((ends[end] for end in ends if case.endswith(end)), held_figures)
    return Measurement(figures(_kit(), half_way(plan.away_of(case)), seed), np.zeros((0, 0)))


def summarise(results: RecallResults, case: str, rows: list[dict[str, float]]) -> None:
    """Add a row's means, the gains of every memory over the window, and what recalling claims."""
    for name in rows[0]:
        results.figures[f"{case}: {name}"] = estimate([row[name] for row in rows])
    memories = _memories(case, rows[0])
    pairs = [(name, WINDOW) for name in memories if name != WINDOW]
    if case.endswith(WHOLE):
        pairs += [(f"{name}{OFF}", f"{WINDOW}{OFF}") for name, _ in [*pairs]]
    claimed = [(ours, other) for ours in RECALLING for other in OTHERS]
    pairs += [pair for pair in (*claimed, (VIEW, CONTENT)) if {*pair} <= {*rows[0]}]
    for ours, other in dict.fromkeys(pairs):
        gain = estimate([row[ours] - row[other] for row in rows])
        results.differences[f"{case}: {ours} less {other}"] = gain
        if (ours, other) in claimed and len(rows) >= MIN_CLIPS:
            text = f"{case}: {ours} recalls more than {other} of as many resident bytes"
            results.claims.append(Claim(text, gain.low, 0.0, gain.low > 0))


def _memories(case: str, row: dict[str, float]) -> list[str]:
    """The names of the memories among a clip's figures."""
    if case.endswith((SERVED, WHOLE)):
        return [name for name in row if name != TRUTH and not name.endswith(OFF)]
    return [name for name in row if f"MB: {name}" in row]


@click.command(help=__doc__)
@click.option("--away", multiple=True, type=click.IntRange(24), help="Latent frames to the turn.")
@click.option("--clips", type=click.IntRange(1), default=CLIPS, show_default=True)
@click.option("--minutes", default=FOREVER, help="Start no clip after this many minutes.")
@click.option("--record", type=NEW_FILE, help="Keep finished clips in FILE and continue from it.")
@click.option("--plot", type=NEW_FILE, help="Draw the results into FILE.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(  # noqa: PLR0913
    away: tuple[int, ...], clips: int, minutes: float, record: Path | None, plot: Path | None,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Run a part of the suite."""
    with reporting():
        results = measure(RecallPlan(away or AWAY, clips, minutes, record))
        results.publish(json_path)
        if plot is not None:
            draw(results.figures, results.differences, plot)


if __name__ == "__main__":
    command()
