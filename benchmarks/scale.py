"""`longtake bench scale`: the driver of a batch against many workers, some of which die.

The lease queue and its records on disk are the real ones; the workers, the network and the time of
a row are simulated. A row takes 10 to 90 s, a lease ends after 60 s, and a worker asks for the next
row at once. A worker that dies renews nothing, and comes back under another lease.

    python -m longtake.benchmarks.scale --rows 100000 --workers 1000 --json out.json
"""

from __future__ import annotations

import heapq
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from ..headless.batch.record import DONE, Record, Records
from ..headless.batch.row import Row
from ..headless.leases.queue import Ending, Lease, LeaseQueue
from ._shared.process_memory import resident_bytes
from ._shared.report import Results

LEASE_S, BEATS = 60.0, 3
SHORTEST_S, LONGEST_S = 10.0, 90.0
MIN_ROWS_PER_S = 50.0  # an instant server's batch does as many
MIB = 2**20
TENTHS = 10


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """The numbers of rows and workers, and the share of runs in which the worker dies."""

    rows: int = 100_000
    workers: int = 1_000
    dying: float = 0.05
    seed: int = 0


@dataclass(slots=True)
class Course:
    """What happened: how often each row ended, all runs, the deaths, and memory at each tenth."""

    ends: Counter[int] = field(default_factory=Counter)
    runs: int = 0
    deaths: int = 0
    simulated_s: float = 0.0
    resident: list[int] = field(default_factory=list)


def main(json_path: Path | None) -> None:
    """Run the suite and show the results; save them if `json_path` is given."""
    measure(ScalePlan()).publish(json_path)


def measure(plan: ScalePlan) -> Results:
    """Simulate a whole batch, and judge rows a second, memory and losses."""
    results = Results("scale")
    with tempfile.TemporaryDirectory() as folder:
        records = Records(Path(folder))
        rows = list(_rows(plan.rows))
        records.merge_rows(row.record for row in rows)
        began = time.monotonic()
        course = simulate(plan, LeaseQueue(rows, records, LEASE_S, 0.0))
        seconds = time.monotonic() - began
        later = Records(Path(folder))
        later.resume()
        lost = sum(record.state != DONE for record in later.rows)
    _judge(results, plan, course, seconds, lost)
    return results


@dataclass(order=True, slots=True)
class Moment:
    """When a worker acts next: it asks for a row, renews its lease, or ends its row at `end_s`."""

    at_s: float
    worker: int
    lease: Lease | None = field(default=None, compare=False)
    end_s: float = field(default=0.0, compare=False)


def simulate(plan: ScalePlan, queue: LeaseQueue) -> Course:
    """Run every worker in simulated time, until all rows have ended."""
    course, chance = Course(), random.Random(plan.seed)
    agenda = [Moment(chance.random(), worker) for worker in range(plan.workers)]
    heapq.heapify(agenda)
    while queue.unfinished:
        moment = agenda[0]
        course.simulated_s = moment.at_s
        heapq.heapreplace(agenda, _act(moment, queue, course, chance, plan.dying))
        if len(course.ends) * TENTHS >= len(course.resident) * plan.rows:
            course.resident.append(resident_bytes())
    return course


def _act(
    moment: Moment, queue: LeaseQueue, course: Course, chance: random.Random, dying: float
) -> Moment:
    """Do what a worker does at a moment, and return its next."""
    now, worker = moment.at_s, moment.worker
    if moment.lease is None:
        return _begin(now, worker, queue, course, chance, dying)
    if now < moment.end_s:
        queue.renew(moment.lease.id, now)
        return _within(now, worker, moment.lease, moment.end_s)
    if queue.end(moment.lease.id, Ending(now)):
        course.ends[moment.lease.row.record.number] += 1
    return Moment(now, worker)


def _begin(
    now: float, worker: int, queue: LeaseQueue, course: Course, chance: random.Random, dying: float
) -> Moment:
    lease = queue.take(f"worker-{worker}", now)
    if lease is None:  # the last rows are at other workers
        return Moment(now + LEASE_S / BEATS, worker)
    course.runs += 1
    seconds = chance.uniform(SHORTEST_S, LONGEST_S)
    if chance.random() < dying:
        course.deaths += 1
        return Moment(now + seconds + LEASE_S, worker)
    return _within(now, worker, lease, now + seconds)


def _within(now: float, worker: int, lease: Lease, end_s: float) -> Moment:
    return Moment(min(now + LEASE_S / BEATS, end_s), worker, lease, end_s)


def _rows(count: int) -> Iterator[Row]:
    for number in range(1, count + 1):
        record = Record(number, f"{number:032x}", "w.json", {"5.seed": number}, f"{number:06}-w")
        yield Row(record, dict)


def _judge(results: Results, plan: ScalePlan, course: Course, seconds: float, lost: int) -> None:
    results.samples["the driver's own seconds"] = [seconds]
    tenths = course.resident
    results.bytes |= {
        "resident with all rows": tenths[0], "resident at the end": tenths[-1],
    }  # fmt: skip
    results.notes["course"] = (
        f"{plan.rows} rows on {plan.workers} workers: {course.runs} runs, {course.deaths} workers "
        f"died, {course.simulated_s / 60:.0f} simulated minutes in {seconds:.0f} s of the driver."
    )
    results.at_most("rows lost", lost, 0)
    results.at_most("rows that ended twice", max(course.ends.values()) - 1, 0)
    results.at_least("rows a second", plan.rows / seconds, MIN_ROWS_PER_S)
    results.at_most("resident memory, the end over the start", tenths[-1] / tenths[0], 1.2)


@click.command()
@click.option("--rows", default=100_000, type=click.IntRange(1), show_default=True)
@click.option("--workers", default=1_000, type=click.IntRange(1), show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(rows: int, workers: int, json_path: Path | None) -> None:
    """Simulate a batch on workers of which one in twenty dies in each row."""
    measure(ScalePlan(rows, workers)).publish(json_path)


if __name__ == "__main__":
    command()
