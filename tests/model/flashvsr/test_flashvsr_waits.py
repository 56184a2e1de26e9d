"""The processor queues FlashVSR's passes without waiting for the device.

As in tests/samplers/test_device_waits.py: on a device of fake tensors, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from torch.utils import backend_registration

from longtake.tests.support.model.flashvsr import SMALL
from longtake.tests.support.model.flashvsr_waits import CASES

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import runpy, sys
runpy.run_path("tests/conftest.py")
from longtake.tests.support.model.flashvsr_waits import main
main(sys.argv[1:])
"""
PASSES = 2
pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices in Python",
)


@cache
def waits(*arguments: str) -> dict[str, dict[str, int]]:
    """Where each case waits for the device, and how often in two passes."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    places: dict[str, dict[str, int]] = json.loads(done.stdout)
    return places


@pytest.mark.parametrize("case", ["whole", "v1", "tiles"])
def test_no_pass_waits_for_the_device(case: str) -> None:
    assert waits(*CASES)[case] == {}


def test_numbers_read_back_in_each_layer_would_be_seen() -> None:
    assert [*waits(*CASES)["counting"].values()] == [PASSES * SMALL.layers]


def test_copies_as_torch_makes_them_would_wait_in_every_pass() -> None:
    places = waits("whole", "--plain")["whole"]
    assert sum(count for place, count in places.items() if place.startswith("cpu to")) >= PASSES
