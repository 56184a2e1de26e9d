"""`longtake bench scale`: the driver of a batch against many workers, some of which die.

The lease queue and its records on disk are the real ones. The workers, the network and the time of
a row are simulated, in a process of its own (`headless/leases/simulation.py`).

    python -m longtake.benchmarks.scale --rows 100000 --workers 1000 --json out.json
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from ._shared.report import Results

ROWS, WORKERS, DYING, SEED = 100_000, 1_000, 0.05, 0
MIN_ROWS_PER_S = 50.0  # a batch on an instant server does as many
MAX_GROWTH = 1.2  # resident memory, the end over the start


def main(json_path: Path | None) -> None:
    """Run the suite and show the results; save them if `json_path` is given."""
    judge(ROWS, WORKERS, simulate(ROWS, WORKERS)).publish(json_path)


def simulate(rows: int, workers: int) -> dict[str, Any]:
    """Return the course of a batch, as the simulation prints it."""
    command = [sys.executable, "-m", "longtake.headless.leases.simulation"]
    numbers = [str(number) for number in (rows, workers, DYING, SEED)]
    done = subprocess.run([*command, *numbers], check=True, capture_output=True, text=True)
    course: dict[str, Any] = json.loads(done.stdout)
    return course


def judge(rows: int, workers: int, course: dict[str, Any]) -> Results:
    """Judge rows a second, memory and losses."""
    results = Results("scale")
    seconds, resident = course["driver_s"], course["resident"]
    results.samples["the driver's own seconds"] = [seconds]
    results.bytes["resident with all rows"] = resident[0]
    results.bytes["resident at the end"] = resident[-1]
    results.notes["course"] = (
        f"{rows} rows on {workers} workers: {course['runs']} runs, {course['deaths']} deaths, "
        f"{course['simulated_s'] / 60:.0f} simulated minutes in {seconds:.0f} s of the driver."
    )
    results.at_most("rows lost", course["lost"], 0)
    results.at_most("rows that ended twice", course["ended_twice"], 0)
    results.at_least("rows a second", rows / seconds, MIN_ROWS_PER_S)
    results.at_most("resident memory, end over start", resident[-1] / resident[0], MAX_GROWTH)
    return results


@click.command()
@click.option("--rows", default=ROWS, type=click.IntRange(1), show_default=True)
@click.option("--workers", default=WORKERS, type=click.IntRange(1), show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(rows: int, workers: int, json_path: Path | None) -> None:
    """Simulate a batch on workers of which one in twenty dies in each row."""
    judge(rows, workers, simulate(rows, workers)).publish(json_path)


if __name__ == "__main__":
    command()
