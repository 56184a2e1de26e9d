"""Rollouts on a stand-in for CUDA: the values of a CPU, and no race.

The stand-in needs no accelerator. It refuses what CUDA refuses, gives late copies no content before
somebody waits, and sees streams that meet in the same memory.
"""

from __future__ import annotations

import pytest

from longtake.tests.support.device.frames import CASES as FRAMES
from longtake.tests.support.device.shots import CASES
from longtake.tests.support.waits import needs_fake_devices, run_apart

QUICK = "main memory", "by content", "averaging in main memory", "state in main memory"
LONG = tuple(case for case in CASES if case not in QUICK)
ROUNDING = 1e-5
"""On CUDA complex products rotate, and a bias of keys goes into further dimensions: its kernels
take no mask as cheaply."""
OTHER_ORDER = 1e-4
"""On a CPU convolutions take another order in memory, and longer sums."""


@needs_fake_devices
@pytest.mark.parametrize(
    "case", [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in LONG)]
)
def test_a_shot_has_the_values_of_a_cpu_and_no_race(case: str) -> None:
    """Its caches go to main memory once, and its last chunk is made again from a snapshot."""
    result = run_apart("device.shots", *(QUICK if case in QUICK else LONG))[case]
    assert result["faults"] == []
    assert result["off"] <= ROUNDING


@needs_fake_devices
@pytest.mark.slow
@pytest.mark.parametrize("case", FRAMES)
def test_frames_are_a_cpus_and_nothing_races(case: str) -> None:
    """Decoders and encoders in parts, FlashVSR with states in main memory, a recurrent model."""
    result = run_apart("device.frames", *FRAMES)[case]
    assert result["faults"] == []
    assert result["off"] <= OTHER_ORDER


@needs_fake_devices
def test_the_stand_in_sees_what_cuda_refuses_and_what_races() -> None:
    seen = run_apart("device.checks")
    assert "found cpu" in seen["two_devices"] and "cuda:1" in seen["two_cards"]
    assert seen["a_number"] == [3.0, 3.0] and "numpy" in seen["numpy"]
    assert seen["unwritten"] == [True, True] and seen["read_too_early"] == [[True], [1.0]]
    assert "before the device read it" in seen["written_too_early"][0]
    assert "invalid argument" in seen["no_pictures"]
    assert "another stream" in seen["unordered"][0] and seen["ordered"] is None
    assert "freed while another stream" in seen["freed_too_early"][0]
