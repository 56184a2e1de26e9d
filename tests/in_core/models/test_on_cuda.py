"""The real core's memory management around our shots, on a stand-in for CUDA."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from longtake.tests.in_core.support.places import ROOT
from longtake.tests.support.device.core import CASES
from longtake.tests.support.waits import needs_fake_devices

PROGRAM = f"""
import runpy, sys
sys.path.insert(0, "")
runpy.run_path({str(ROOT / "tests" / "conftest.py")!r})
from longtake.tests.support.device.core import main
main(sys.argv[1:])
"""
PLAIN = "as is"


@cache
def shots() -> dict[str, dict[str, Any]]:
    """What all cases made, from a process of its own in the core's folder."""
    command = [sys.executable, "-c", PROGRAM, *CASES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return records


@needs_fake_devices
@pytest.mark.parametrize("case", CASES)
def test_a_shot_is_the_same_wherever_the_host_keeps_its_weights(case: str) -> None:
    """No module stays behind in main memory, and no stream races with another."""
    result = shots()[case]
    assert result["failures"] == [] and result["faults"] == []
    assert len(result["latents"]) == 3 and result["latents"] == shots()[PLAIN]["latents"]


@needs_fake_devices
@pytest.mark.parametrize("case", ["interrupted", "out of memory"])
def test_a_run_that_ends_early_gives_all_back_but_weights(case: str) -> None:
    """The host keeps weights for the next run, which then holds no more than these."""
    result = shots()[case]
    assert result["held before"] == result["held"] == shots()[PLAIN]["held"]


@needs_fake_devices
def test_memory_that_runs_out_twice_is_a_sentence_that_says_what_to_do() -> None:
    sentence = shots()["out of memory"]["sentence"]
    assert "Memory ran out again at 0:00.6" in sentence and "lower width" in sentence


@needs_fake_devices
def test_a_model_that_needs_the_card_takes_weights_and_leaves_resting_states() -> None:
    """States rest in main memory; who frees all models takes them too."""
    result = shots()["crowded"]
    assert result["after a request"] == [0, 0] and result["after free"] == 1
