"""`longtake bench attention_recall`: does returning scenery look like it did before?

In the embedded model's world (96x64) the camera turns back after 16 to 512 latent frames. Half-way
back the model makes one chunk, whose entering scenery no window reaches. The memories under test
are the whole history, the history in int8, and windows and TempCaches of 10, 25 and 50 % of its
bytes. A second, unclaimed course returns only a little, so that a window may contain the entering
scenery. Agreement is the correlation of the entering columns with the truth. Figures are means over
clips with 95 % bootstrap intervals, and differences within clips. Claims use the mean over
histories up to 64 latent frames, the length the model was trained for. Windows that reach the
entering scenery carry no claim: in int8, 25 % of the bytes hold nine tenths of the history.

    python -m longtake.benchmarks.attention_recall --clips 64 --away 32 --record recall.jsonl
    python -m longtake.benchmarks.attention_recall --share 0.1 --workers 2 --record tenth.jsonl

run parts of the suite; with --record a stopped run continues.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
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
from ..training.evaluation.returns import CameraTurn, half_way
from ._attention.recall import AWAY, FULL, FULL_INT8, SHARES, recall_figures
from ._shared.measures import Measurement
from ._shared.records import Job, Records
from ._shared.report import Claim, write

CLIPS = 128
FAR, FEW = (128, 512), 8  # turns beyond the trained history, and the number of clips for each
NEAR = CameraTurn(48, 9)
TRAINED = 64  # latent frames of history
PAIRS = (
    ("TempCache", "window"),
    ("TempCache, int8", "window, int8"),
    ("TempCache, int8", "window"),
)
OURS = ("TempCache", "TempCache, int8")
REACHING = ("window, int8, 25%", "window, int8, 50%")  # these contain the entering scenery
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class RecallPlan:
    """Latent frames before each turn of the camera, and the number of clips.

    Turns in FAR get at most `few` clips. `shares` are memory sizes as shares of the history's
    bytes. No clip starts after `minutes`.
    """

    away: tuple[int, ...] = (*AWAY, *FAR)
    near: tuple[CameraTurn, ...] = (NEAR,)
    clips: int = CLIPS
    few: int = FEW
    shares: tuple[float, ...] = SHARES
    workers: int = 1
    minutes: float = float("inf")
    record: Path | None = None

    @property
    def turns(self) -> dict[str, CameraTurn]:
        """Camera turns by name, those with a claim first."""
        return {str(turn): turn for turn in (*map(half_way, self.away), *self.near)}

    def jobs(self) -> list[Job]:
        """Return every clip: all turns of a seed before the next seed, slow far turns last."""
        far = [name for name, turn in self.turns.items() if turn.history > TRAINED]
        near = [name for name in self.turns if name not in far]
        seeds = range(self.clips)
        return [*_each(seeds, near), *_each(seeds[: self.few], far)]


def _each(seeds: range, names: list[str]) -> list[Job]:
    """Return all names of a seed before the next seed."""
    return [(name, seed) for seed in seeds for name in names]


@dataclass(slots=True)
class RecallResults:
    """Agreement and megabytes by case, differences within clips, and claims."""

    suite: str = "attention_recall"
    figures: dict[str, Estimate] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def save(self, path: Path) -> None:
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        for name, figure in {**self.figures, **self.differences}.items():
            console.print(f"{name:56} {figure}  n={figure.clips}", highlight=False)
        for claim in self.claims:
            word = "[green]holds[/]" if claim.holds else "[red]FAILS[/]"
            console.print(f"{word} {claim.text}: {claim.bound:.3f}", highlight=False)


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    results = measure(RecallPlan())
    results.show(Console(soft_wrap=True))
    if json_path is not None:
        results.save(json_path)


def measure(plan: RecallPlan) -> RecallResults:
    """Measure every clip that is not recorded yet, then summarise all clips."""
    weights = [fingerprint(read(file)[0]) for file in sorted(DEMO_FOLDER.glob("*.safetensors"))]
    made_with: dict[str, object] = {"suite": "attention_recall", "weights": weights}
    if plan.shares != SHARES:
        made_with["shares"] = list(plan.shares)
    records = Records(plan.record, made_with)
    jobs = [job for job in plan.jobs() if job not in records.measurements]
    until = time.monotonic() + 60 * plan.minutes
    records.complete(partial(measure_clip, plan), jobs, plan.workers, until)
    results, claimed = RecallResults(), []
    for name, turn in plan.turns.items():
        clips = {job: clip for job, clip in records.measurements.items() if job[0] == name}
        rows = {seed: clip.figures for (_, seed), clip in clips.items()}
        if rows:
            summarise(results, f"{name}, history {turn.history}", [*rows.values()])
        if turn not in plan.near and turn.history <= TRAINED:
            claimed.append(rows)
    claim(results, claimed)
    return results


@cache
def _kit() -> Kit:
    """Load the demo model once per process."""
    return load_kit(DEMO_FOLDER)


def measure_clip(plan: RecallPlan, job: Job) -> Measurement:
    """Measure one clip with all memories."""
    name, seed = job
    figures = recall_figures(_kit(), plan.turns[name], seed, plan.shares)
    return Measurement(figures, np.zeros((0, 0)))


def summarise(results: RecallResults, label: str, rows: list[dict[str, float]]) -> None:
    """Add the means over a turn's clips, and TempCache minus the window of the same bytes."""
    for name in rows[0]:
        results.figures[f"{label}: {name}"] = estimate([row[name] for row in rows])
    against = [*pairs(), *((f"{kind}, {share:.0%}", FULL) for kind in OURS for share in SHARES)]
    for ours, other in [*against, (FULL_INT8, FULL)]:
        if ours not in rows[0]:
            continue
        difference = estimate([row[ours] - row[other] for row in rows])
        results.differences[f"{label}: {ours} less {other}"] = difference


def claim(results: RecallResults, turns: list[dict[int, dict[str, float]]]) -> None:
    """Claim that TempCache recalls more than the window of the same bytes.

    For each seed the difference is a mean over all turns; only seeds measured for all turns count.
    """
    seeds = sorted(set.intersection(*map(set, turns))) if turns else []
    for ours, other in pairs() if seeds else []:
        if ours not in turns[0][seeds[0]]:
            continue
        means = [
            float(np.mean([rows[seed][ours] - rows[seed][other] for rows in turns]))
            for seed in seeds
        ]
        difference = estimate(means)
        results.differences[f"half way back: {ours} less {other}"] = difference
        if other in REACHING:
            continue
        text = f"half way back, {ours} recalls more than {other} of no fewer bytes"
        results.claims.append(Claim(text, difference.low, 0.0, difference.low > 0))


def pairs() -> list[tuple[str, str]]:
    """Return each memory with the window of as many bytes."""
    return [(f"{ours}, {share:.0%}", f"{other}, {share:.0%}")
            for ours, other in PAIRS for share in SHARES]  # fmt: skip


@click.command(help=__doc__)
@click.option("--away", multiple=True, type=click.IntRange(6), help="Latent frames to the turn.")
@click.option("--clips", type=click.IntRange(1), default=CLIPS, show_default=True)
@click.option(
    "--few", type=click.IntRange(1), default=FEW, show_default=True, help="Clips per far turn."
)
@click.option("--share", "shares", multiple=True, type=click.Choice([f"{s:g}" for s in SHARES]))
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--minutes", default=float("inf"), help="Start no clip after this many minutes.")
@click.option("--record", type=NEW_FILE, help="Keep finished clips in FILE and continue from it.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(  # noqa: PLR0913
    away: tuple[int, ...], clips: int, few: int, shares: tuple[str, ...], workers: int,
    minutes: float, record: Path | None, json_path: Path | None,
) -> None:  # fmt: skip
    with reporting():
        plan = RecallPlan(clips=clips, few=few, workers=workers, minutes=minutes, record=record)
        plan = replace(plan, shares=tuple(map(float, shares)) or SHARES)
        results = measure(replace(plan, away=away, near=()) if away else plan)
        results.show(Console(soft_wrap=True))
        if json_path is not None:
            results.save(json_path)


if __name__ == "__main__":
    command()
