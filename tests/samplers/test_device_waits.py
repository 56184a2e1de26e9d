"""The processor queues the work of a chunk without waiting for the device.

Tried on a device of fake tensors, which needs no accelerator.
"""

from __future__ import annotations

from functools import partial

import pytest

from longtake.tests.support.samplers.fake_device import CASES
from longtake.tests.support.waits import needs_fake_devices, waits

waits_of = partial(waits, "samplers.fake_device")
QUICK = "sink, cfg", "camera: plucker"
LONG = tuple(case for case in CASES if case not in QUICK)


@needs_fake_devices
@pytest.mark.parametrize(
    "case", [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in LONG)]
)
def test_only_a_finished_chunk_waits_for_the_device(case: str) -> None:
    """Its latents go to the journal, and they must be finite."""
    places = waits_of(*(QUICK if case in QUICK else LONG))[case]
    once = places.pop("number: samplers/branches.py check_finite")
    assert places.pop("phantom to cpu: samplers/loop.py chunks") == once >= 2
    in_flight = places.pop("phantom to cpu: samplers/loop.py <genexpr>", 0)
    assert in_flight <= (once if case == "rolling" else 0)
    once_resumed = places.pop("cpu to phantom: machine/wide_numbers.py bring", 0)
    assert once_resumed <= (case == "rolling") and not places


@pytest.mark.slow
@needs_fake_devices
def test_copies_as_torch_makes_them_would_wait_in_every_step() -> None:
    places = waits_of("int8", "--plain")["int8"]
    steps = sum(count for place, count in places.items() if place.startswith("cpu to phantom"))
    assert steps > 10
