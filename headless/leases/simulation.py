"""A batch in simulated time: the real lease queue and records, and workers of which some die.

    python -m longtake.headless.leases.simulation 100000 1000 0.05 0

A row takes 10 to 90 s, a lease ends after 60 s, and a worker asks for the next row at once. A
worker that dies renews nothing, and comes back under another lease. Prints one JSON object.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..batch.record import DONE, Record, Records
from ..batch.row import Row
from .queue import Ending, Lease, LeaseQueue

LEASE_S, BEATS = 60.0, 3
SHORTEST_S, LONGEST_S = 10.0, 90.0
TENTHS = 10
STATUS = Path("/proc/self/status")


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
    lost: int = 0
    driver_s: float = 0.0


def simulate_batch(plan: ScalePlan) -> Course:
    """Run a whole batch, with its records in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        records = Records(Path(folder))
        rows = list(_rows(plan.rows))
        records.merge_rows(row.record for row in rows)
        began = time.monotonic()
        course = simulate(plan, LeaseQueue(rows, records, LEASE_S, 0.0))
        course.driver_s = time.monotonic() - began
        later = Records(Path(folder))
        later.resume()
        course.lost = sum(record.state != DONE for record in later.rows)
    return course


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
            course.resident.append(_resident_bytes())
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
    if queue.end(moment.lease.id, Ending(now), now):
        course.ends[moment.lease.row.record.number] += 1
    return Moment(now, worker)


def _begin(
    now: float, worker: int, queue: LeaseQueue, course: Course, chance: random.Random, dying: float
) -> Moment:
    queue.expire(now)
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


def _resident_bytes() -> int:
    """Return the memory of this process, 0 where the system does not say."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def main(rows: str, workers: str, dying: str, seed: str) -> None:
    """Print the course of a batch."""
    course = simulate_batch(ScalePlan(int(rows), int(workers), float(dying), int(seed)))
    ended_twice = sum(count > 1 for count in course.ends.values())
    print(  # noqa: T201
        json.dumps({
            "runs": course.runs, "deaths": course.deaths, "simulated_s": course.simulated_s,
            "driver_s": course.driver_s, "resident": course.resident, "lost": course.lost,
            "ended_twice": ended_twice,
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
