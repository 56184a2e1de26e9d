"""The processor queues the work of a chunk without waiting for the device.

Tried on a device of fake tensors, which needs no accelerator. Such a device stays for the life of a
process, so it gets a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from torch.utils import backend_registration

from longtake.tests.support.samplers.fake_device import CASES

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import runpy, sys
runpy.run_path("tests/conftest.py")
from longtake.tests.support.samplers.fake_device import main
main(sys.argv[1:])
"""
needs_fake_devices = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices in Python",
)


@cache
def waits(*arguments: str) -> dict[str, dict[str, int]]:
    """Where each case waits for the device, and how often in three or more chunks."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


QUICK = "sink, cfg", "camera: plucker"
LONG = tuple(case for case in CASES if case not in QUICK)


@needs_fake_devices
@pytest.mark.parametrize(
    "case", [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in LONG)]
)
def test_only_a_finished_chunk_waits_for_the_device(case: str) -> None:
    """Its latents go to the journal, and they must be finite."""
    places = waits(*(QUICK if case in QUICK else LONG))[case]
    once = places.pop("number: samplers/branches.py check_finite")
    assert places.pop("phantom to cpu: samplers/loop.py chunks") == once >= 3
    in_flight = places.pop("phantom to cpu: samplers/loop.py <genexpr>", 0)
    assert in_flight <= (once if case == "rolling" else 0)
    assert all(count == 1 for count in places.values())  # a new prompt is read once


@pytest.mark.slow
@needs_fake_devices
def test_copies_as_torch_makes_them_would_wait_in_every_step() -> None:
    places = waits("int8", "--plain")["int8"]
    steps = sum(count for place, count in places.items() if place.startswith("cpu to phantom"))
    assert steps > 10
