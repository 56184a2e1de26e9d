"""Whole runs of the command line, on an idle machine and beside a program that keeps a core busy.

before        decoded in turn, OpenMP as it comes: on as many threads as there are cores
one thread    likewise, with OMP_NUM_THREADS=1
now           as the program `longtake` runs by itself
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .paired import median_interval, ratio_interval
from .report import Results

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = Path("example_workflows", "api", "1_text_to_stream.json")
# tests/conftest.py binds the checkout, whatever its folder name, to the package name
START = "import runpy; runpy.run_path('tests/conftest.py'); from longtake.headless.{} import main; "
BUSY = "while True: pass"
SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "GOMP_SPINCOUNT")

MIN_FASTER = 1.35  # than before, idle
MIN_BUSY = 0.8  # of one thread, both beside a busy core
MAX_LATER_S = 0.2  # than before, idle


@dataclass(frozen=True, slots=True)
class BusyPlan:
    """The amount of work. `before` is a checkout to compare with in place of this one."""

    rounds: int = 7
    seconds: float = 20.0  # of video
    before: Path = ROOT


@dataclass(frozen=True, slots=True)
class Case:
    """How one run is started: by a module of `headless`, with changes to the environment."""

    checkout: Path
    module: str
    environment: tuple[tuple[str, str], ...] = ()


def cases(plan: BusyPlan) -> dict[str, Case]:
    in_turn = ("LONGTAKE_DECODE_THREAD", "0")
    return {
        "before": Case(plan.before, "cli", (in_turn,)),
        "one thread": Case(plan.before, "cli", (in_turn, ("OMP_NUM_THREADS", "1"))),
        "now": Case(ROOT, "start"),
    }


def measure_busy(plan: BusyPlan, results: Results) -> None:
    """Measure frames per second and the first frame; judge the claims in pairs."""
    speeds: dict[str, list[float]] = {}
    firsts: dict[str, list[float]] = {}
    names = list(cases(plan))
    for turn in range(plan.rounds):
        first = turn % len(names)
        for load in ("idle", "busy"):
            for name in names[first:] + names[:first]:
                with _one_core(busy=load == "busy"):
                    report = run_once(cases(plan)[name], plan.seconds, seed=turn)
                speeds.setdefault(f"{name}, {load}", []).append(report["frames_per_s"])
                firsts.setdefault(f"{name}, {load}", []).append(report["first_frame_s"])
    results.samples |= {f"first frame: {key}": values for key, values in firsts.items()}
    results.figures |= {f"frames/s: {key}": median_interval(v) for key, v in speeds.items()}
    results.figures |= {f"first frame: {key}": median_interval(v) for key, v in firsts.items()}
    _judge(speeds, firsts, results)


def _judge(
    speeds: dict[str, list[float]], firsts: dict[str, list[float]], results: Results
) -> None:
    faster = ratio_interval(speeds["now, idle"], speeds["before, idle"])
    beside = ratio_interval(speeds["now, busy"], speeds["one thread, busy"])
    results.figures |= {"now / before, idle": faster, "now / one thread, busy": beside}
    results.at_least("idle, now against before", faster.low, MIN_FASTER)
    results.at_least("beside a busy core, now against one thread", beside.low, MIN_BUSY)
    for load in ("idle", "busy"):
        pairs = zip(firsts[f"now, {load}"], firsts["before, idle"], strict=True)
        later = median_interval([now - before for now, before in pairs])
        results.at_most(f"{load}, seconds to the first frame later", later.high, MAX_LATER_S)


def run_once(case: Case, seconds: float, seed: int) -> dict[str, float]:
    """Run the first example anew in a process of its own; returns its report."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    with TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        changes = [f"--set=5.length={seconds:g}", f"--set=5.seed={seed}"]
        arguments = ["run", str(WORKFLOW), f"--out={folder}", f"--report={report}", *changes]
        subprocess.run(
            [sys.executable, "-c", START.format(case.module) + "main()", *arguments],
            cwd=case.checkout, env={**environment, **dict(case.environment)}, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        known: dict[str, float] = json.loads(report.read_text(encoding="utf-8"))
    return known


@contextmanager
def _one_core(*, busy: bool) -> Iterator[None]:
    """Keep one core busy within the block, or none."""
    if not busy:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", BUSY]) as program:
        try:
            yield
        finally:
            program.kill()
