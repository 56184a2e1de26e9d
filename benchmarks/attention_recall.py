"""`longtake bench attention_recall`: is scenery that comes back the scenery that went?

The embedded model, 96x64: the camera turns back after 16 to 512 latent frames, and half of the way
back, where no window reaches what comes in, one chunk is made over the whole history, the history
in int8, and windows and TempCaches of 10, 25 and 50 % of its bytes. Beside it, without a claim, a
camera that has come back so little that a window may hold what comes in. Agreement is the
correlation of the columns that come in with the truth. Means over clips with 95 % bootstrap
intervals, differences within clips; claims on the mean over the histories up to 64 latent frames,
which the model was trained for, and against windows that do not reach what comes in: in int8 25 %
of the bytes hold nine tenths of the history.

    python -m longtake.benchmarks.attention_recall --clips 64 --away 32 --record recall.jsonl
    python -m longtake.benchmarks.attention_recall --share 0.1 --workers 2 --record tenth.jsonl

is the same with options, and goes on where it was stopped.
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
from ._attention.recall import FULL, FULL_INT8, SHARES, Course, half_way, recalled
from ._shared.measures import Measured
from ._shared.records import Job, Records
from ._shared.report import Claim, write

AWAY, CLIPS = (16, 24, 32, 40), 128
FAR, FEW = (128, 512), 8  # where the model was never trained to look, and how many clips of each
NEAR = Course(48, 9)
TRAINED = 64  # latent frames of history
PAIRS = (
    ("TempCache", "window"),
    ("TempCache, int8", "window, int8"),
    ("TempCache, int8", "window"),
)
OURS = ("TempCache", "TempCache, int8")
REACHING = ("window, int8, 25%", "window, int8, 50%")  # what comes in: nothing is left to win
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """Latent frames after which the camera turns, and how many clips of each, of far ones `few` at
    the most, over memories of so large `shares` of the history's bytes, by so many processes; none
    is begun after `minutes`.
    """

    away: tuple[int, ...] = (*AWAY, *FAR)
    near: tuple[Course, ...] = (NEAR,)
    clips: int = CLIPS
    few: int = FEW
    shares: tuple[float, ...] = SHARES
    workers: int = 1
    minutes: float = float("inf")
    record: Path | None = None

    @property
    def courses(self) -> dict[str, Course]:
        """By name; what is claimed first."""
        return {str(one): one for one in (*map(half_way, self.away), *self.near)}

    def jobs(self) -> list[Job]:
        """Every clip, all courses of a seed before the next seed; far ones, the slow ones, last."""
        far = [name for name, course in self.courses.items() if course.history > TRAINED]
        near = [name for name in self.courses if name not in far]
        seeds = range(self.clips)
        return [*_each(seeds, near), *_each(seeds[: self.few], far)]


def _each(seeds: range, names: list[str]) -> list[Job]:
    """All names of a seed before the next seed."""
    return [(name, seed) for seed in seeds for name in names]


@dataclass(slots=True)
class Recalled:
    """Agreement and megabytes by case, differences within clips, and claims."""

    suite: str = "attention_recall"
    figures: dict[str, Estimate] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        """A line each."""
        for name, found in {**self.figures, **self.differences}.items():
            console.print(f"{name:56} {found}  n={found.clips}", highlight=False)
        for claim in self.claims:
            word = "[green]holds[/]" if claim.holds else "[red]FAILS[/]"
            console.print(f"{word} {claim.text}: {claim.bound:.3f}", highlight=False)


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path` when there is one."""
    found = measure(Plan())
    found.show(Console(soft_wrap=True))
    if json_path is not None:
        found.save(json_path)


def measure(plan: Plan) -> Recalled:
    """Every clip that was not measured yet, then what all of them say."""
    weights = [fingerprint(read(file)[0]) for file in sorted(DEMO_FOLDER.glob("*.safetensors"))]
    made_with: dict[str, object] = {"suite": "attention_recall", "weights": weights}
    if plan.shares != SHARES:
        made_with["shares"] = list(plan.shares)
    records = Records(plan.record, made_with)
    jobs = [job for job in plan.jobs() if job not in records.found]
    until = time.monotonic() + 60 * plan.minutes
    records.complete(partial(measured, plan), jobs, plan.workers, until)
    found, claimed = Recalled(), []
    for name, course in plan.courses.items():
        rows = {seed: made.figures for (of, seed), made in records.found.items() if of == name}
        if rows:
            summarise(found, f"{name}, history {course.history}", [*rows.values()])
        if course not in plan.near and course.history <= TRAINED:
            claimed.append(rows)
    claim(found, claimed)
    return found


@cache
def _kit() -> Kit:
    """The demo model, once in a process."""
    return load_kit(DEMO_FOLDER)


def measured(plan: Plan, job: Job) -> Measured:
    """A clip of a course, by all memories."""
    name, seed = job
    figures = recalled(_kit(), plan.courses[name], seed, plan.shares)
    return Measured(figures, np.zeros((0, 0)))


def summarise(found: Recalled, label: str, rows: list[dict[str, float]]) -> None:
    """Means of a course's clips, and TempCache against the window of the same bytes."""
    for name in rows[0]:
        found.figures[f"{label}: {name}"] = estimate([row[name] for row in rows])
    against = [*pairs(), *((f"{kind}, {share:.0%}", FULL) for kind in OURS for share in SHARES)]
    for ours, other in [*against, (FULL_INT8, FULL)]:
        if ours not in rows[0]:
            continue
        difference = estimate([row[ours] - row[other] for row in rows])
        found.differences[f"{label}: {ours} less {other}"] = difference


def claim(found: Recalled, courses: list[dict[int, dict[str, float]]]) -> None:
    """TempCache recalls more than the window of its bytes: by seed, means over the courses that
    were measured of all of these seeds.
    """
    seeds = sorted(set.intersection(*map(set, courses))) if courses else []
    for ours, other in pairs() if seeds else []:
        if ours not in courses[0][seeds[0]]:
            continue
        means = [
            float(np.mean([rows[seed][ours] - rows[seed][other] for rows in courses]))
            for seed in seeds
        ]
        difference = estimate(means)
        found.differences[f"half way back: {ours} less {other}"] = difference
        if other in REACHING:
            continue
        text = f"half way back, {ours} recalls more than {other} of no fewer bytes"
        found.claims.append(Claim(text, difference.low, 0.0, difference.low > 0))


def pairs() -> list[tuple[str, str]]:
    """A memory, and a window that is given as many bytes."""
    return [(f"{ours}, {share:.0%}", f"{other}, {share:.0%}")
            for ours, other in PAIRS for share in SHARES]  # fmt: skip


@click.command(help=__doc__)
@click.option("--away", multiple=True, type=click.IntRange(6), help="Only these latent frames.")
@click.option("--clips", type=click.IntRange(1), default=CLIPS, show_default=True)
@click.option("--few", type=click.IntRange(1), default=FEW, show_default=True, help="Of far turns.")
@click.option("--share", "shares", multiple=True, type=click.Choice([f"{s:g}" for s in SHARES]))
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--minutes", default=float("inf"), help="Begin no clip after so long.")
@click.option("--record", type=NEW_FILE, help="Keep clips in FILE, and go on from there.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(  # noqa: PLR0913
    away: tuple[int, ...], clips: int, few: int, shares: tuple[str, ...], workers: int,
    minutes: float, record: Path | None, json_path: Path | None,
) -> None:  # fmt: skip
    """Command line."""
    with reporting():
        some = Plan(clips=clips, few=few, workers=workers, minutes=minutes, record=record)
        some = replace(some, shares=tuple(map(float, shares)) or SHARES)
        found = measure(replace(some, away=away, near=()) if away else some)
        found.show(Console(soft_wrap=True))
        if json_path is not None:
            found.save(json_path)


if __name__ == "__main__":
    command()
