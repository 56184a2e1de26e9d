"""Batches of real, small shots in processes of their own, and the pictures they made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from longtake.headless.batch.record import DONE, Record, Records

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"
OTHERS = ("5.width=48", "5.height=32", "4.steps=1", "8.format=png frames")
SMALL = (*OTHERS, "5.length=0.5")
# tests/conftest.py binds the checkout, whatever its folder name, to the package name
START = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
runpy.run_path("tests/conftest.py")
from longtake.headless.cli import main
main()
"""
Pictures = dict[str, np.ndarray]


def longtake(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a command of ours; its output goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", START, *arguments], cwd=ROOT, stdout=output,
            stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def batch_of(rows: int, out: Path, seconds: float = 0.5) -> list[str]:
    """Return the arguments of a batch of shots that differ in their seed."""
    table = out.with_suffix(".csv")
    table.write_text("5.seed\n" + "".join(f"{seed}\n" for seed in range(rows)))
    changes = [part for change in (*OTHERS, f"5.length={seconds}") for part in ("--set", change)]
    return ["batch", str(WORKFLOW), "--params", str(table), "--out", str(out), *changes]


def records_of(out: Path) -> Sequence[Record]:
    """Return the rows of a batch as they stand."""
    records = Records(out)
    records.resume()
    return records.rows


def pictures_of(out: Path, record: Record) -> Pictures:
    """Return each picture of a row that is done, by its name."""
    assert record.state == DONE, (record.state, record.error)
    paths = list((out / record.folder).rglob("frame_*.png"))
    assert paths
    return {path.name: np.asarray(Image.open(path)) for path in paths}


def assert_same_shots(out: Path, expected: Path) -> None:
    """Check that two batches of the same rows made the same pictures."""
    for ours, theirs in zip(records_of(out), records_of(expected), strict=True):
        made, known = pictures_of(out, ours), pictures_of(expected, theirs)
        assert made.keys() == known.keys()
        assert all((made[name] == known[name]).all() for name in known), ours.label
