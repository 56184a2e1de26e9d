"""`longtake bench crash`: is anything lost when a run is killed, wherever that happens?

Runs are killed (SIGKILL) at random points, inside writes included, one to three times each, and
run again. Every chunk that was delivered must be kept, none twice; final latents and decoded frames
must equal the uninterrupted run's, bit for bit; the saved file must be whole.

    python -m longtake.benchmarks.crash --kills 20 --json out.json

is the same with another number of kills for each schedule and each way to go on.
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
class Plan:
    """How often: so many kills, at random places, for each schedule and each way to go on."""

    kills: int = 100
    most_kills: int = 3
    seed: int = 0


@dataclass(slots=True)
class Tally:
    """What was found over many killed runs."""

    runs: int = 0
    kills: int = 0
    lost: int = 0  # delivered chunks that the next process did not find
    different: int = 0  # runs whose latents or frames were other ones in the end
    torn: int = 0  # runs whose file, journal or record was not whole in the end


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path` when there is one."""
    report(Plan(), json_path)


def report(plan: Plan, json_path: Path | None) -> None:
    """Measure, show and write."""
    results = measure(plan)
    results.publish(json_path)


def measure(plan: Plan) -> Results:
    """Every schedule, by replay and by snapshot."""
    if not hasattr(os, "fork"):
        raise BadInput("the crash suite kills processes as POSIX systems do; run it on one.")
    results = Results("crash")
    for kind in KINDS:
        for way in WAYS:
            tally = killed(kind, way, plan)
            name = f"{kind} by {way}: {tally.kills} kills in {tally.runs} runs"
            results.at_least(f"{name}, as many as asked for", tally.kills, plan.kills)
            results.at_most(f"{name}, delivered chunks lost", tally.lost, 0)
            results.at_most(f"{name}, other latents or frames", tally.different, 0)
            results.at_most(f"{name}, files not whole", tally.torn, 0)
    return results


def killed(kind: str, way: str, plan: Plan) -> Tally:
    """Kill runs of one schedule at random points and let the next process go on."""
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
    """A process for each fatal point as long as they die, then one that lives."""
    for point in fatal:
        outcome = run_once(folder, kind, way, point)
        yield outcome
        if not outcome.killed:  # it had less to do than the first, and came through
            return
    yield run_once(folder, kind, way, None)


def _judge(tally: Tally, folder: Path, whole: Outcome, attempts: list[Outcome]) -> None:
    last = attempts[-1]
    tally.runs += 1
    tally.kills += sum(one.killed for one in attempts)
    for before, after in zip(attempts, attempts[1:], strict=False):
        found = after.resumed_from or after.delivered  # all of it was there
        tally.lost += max(0, min(before.delivered, after.delivered) - found)
    tally.different += (last.latents, last.frames) != (whole.latents, whole.frames)
    tally.torn += not _is_whole(folder)


def _is_whole(folder: Path) -> bool:
    """One sound entry a chunk, a record that names them all, all frames; what the killed processes
    left half written goes when the next one takes the lock.
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
@click.option("--kills", default=Plan().kills, type=click.IntRange(1), show_default=True)
@click.option("--seed", default=Plan().seed, show_default=True, help="Of where they fall.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(kills: int, seed: int, json_path: Path | None) -> None:
    """Command line."""
    with reporting():
        report(Plan(kills=kills, seed=seed), json_path)


if __name__ == "__main__":
    command()
