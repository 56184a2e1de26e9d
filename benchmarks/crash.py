"""`longtake bench crash`: is anything lost when a run is killed at any point?

The suite kills runs (SIGKILL) at random points, also inside writes, one to three times each, and
runs them again. Every delivered chunk must be kept, none twice. Final latents and decoded frames
must equal the uninterrupted run's, bit for bit. The saved file must be complete.

    python -m longtake.benchmarks.crash --kills 20 --json out.json

runs with another number of kills for each schedule and each way to resume.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import click

from ..errors import BadInput
from ..stream.journal.journal import Journal
from ..stream.journal.records import records
from ..training.command import reporting
from ._long.kill import KINDS, WAYS, Outcome, run_once
from ._shared.report import Results

FRAMES = 45  # of video, for 12 latent frames


@dataclass(frozen=True, slots=True)
class CrashPlan:
    """The number of kills, at random points, for each schedule and each way to resume."""

    kills: int = 100
    most_kills: int = 3
    seed: int = 0


@dataclass(slots=True)
class Tally:
    """Totals over many killed runs."""

    runs: int = 0
    kills: int = 0
    lost: int = 0  # delivered chunks that the next process did not find
    different: int = 0  # runs that ended with different latents or frames
    torn: int = 0  # runs that ended with an incomplete file, journal or record


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    report(CrashPlan(), json_path)


def report(plan: CrashPlan, json_path: Path | None) -> None:
    """Measure, show and save."""
    results = measure(plan)
    results.publish(json_path)


def measure(plan: CrashPlan) -> Results:
    """Measure every schedule, resumed by replay and by snapshot."""
    if not hasattr(os, "fork"):
        raise BadInput("the crash suite needs POSIX process signals; run it on Linux or macOS.")
    results = Results("crash")
    for kind in KINDS:
        for way in WAYS:
            tally = kill_runs(kind, way, plan)
            name = f"{kind} by {way}: {tally.kills} kills in {tally.runs} runs"
            results.at_least(f"{name}, as many as asked for", tally.kills, plan.kills)
            results.at_most(f"{name}, delivered chunks lost", tally.lost, 0)
            results.at_most(f"{name}, other latents or frames", tally.different, 0)
            results.at_most(f"{name}, files not whole", tally.torn, 0)
    return results


def kill_runs(kind: str, way: str, plan: CrashPlan) -> Tally:
    """Kill runs of one schedule at random points and let the next process resume."""
    dice, tally = random.Random(f"{plan.seed} {kind} {way}"), Tally()
    with tempfile.TemporaryDirectory() as folder:
        whole = run_once(Path(folder), kind, way, None)
    while tally.kills < plan.kills:
        with tempfile.TemporaryDirectory() as folder:
            kills = dice.randint(1, plan.most_kills)
            fatal = [dice.randint(1, whole.points) for _ in range(kills)]
            _judge(tally, Path(folder), whole, list(_attempts(Path(folder), kind, way, fatal)))
    return tally


def _attempts(folder: Path, kind: str, way: str, fatal: list[int]) -> Iterator[Outcome]:
    """Yield a process for each fatal point while processes die, then one that survives."""
    for point in fatal:
        outcome = run_once(folder, kind, way, point)
        yield outcome
        if not outcome.killed:  # the resumed process had less work and never reached the point
            return
    yield run_once(folder, kind, way, None)


def _judge(tally: Tally, folder: Path, whole: Outcome, attempts: list[Outcome]) -> None:
    last = attempts[-1]
    tally.runs += 1
    tally.kills += sum(attempt.killed for attempt in attempts)
    for before, after in zip(attempts, attempts[1:], strict=False):
        first_chunk = after.resumed_from or after.delivered  # 0: the journal had every chunk
        tally.lost += max(0, min(before.delivered, after.delivered) - first_chunk)
    tally.different += (last.latents, last.frames) != (whole.latents, whole.frames)
    tally.torn += not is_whole(folder)


def is_whole(folder: Path) -> bool:
    """Return whether there is one sound entry per chunk, one record naming all, and all frames.

    Taking the lock removes half-written files of killed processes.
    """
    journal = Journal(folder / "journal")
    [record] = records(journal)
    journal.lock(record.id).release()
    sound = all(journal.read(key) is not None for key in record.keys)
    names = {path.name.split(".")[0] for path in journal.folder.glob("*.safetensors")}
    leftovers = [*journal.folder.glob("*.tmp"), *journal.folder.glob("*.damaged")]
    with av.open(str(folder / "shot.mkv")) as video:
        frames = sum(1 for _ in video.decode(video=0))
    tidy = not leftovers and names == set(record.keys)
    return sound and tidy and frames == FRAMES


@click.command(help=__doc__)
@click.option("--kills", default=CrashPlan().kills, type=click.IntRange(1), show_default=True)
@click.option(
    "--seed", default=CrashPlan().seed, show_default=True, help="Seed of the kill points."
)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(kills: int, seed: int, json_path: Path | None) -> None:
    with reporting():
        report(CrashPlan(kills=kills, seed=seed), json_path)


if __name__ == "__main__":
    command()
