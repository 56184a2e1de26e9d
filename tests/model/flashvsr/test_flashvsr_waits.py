"""The processor queues FlashVSR's passes without waiting for the device.

As in tests/samplers/test_device_waits.py: on a device of fake tensors.
"""

from __future__ import annotations

from functools import partial

import pytest

from longtake.tests.support.model.flashvsr import SMALL
from longtake.tests.support.model.flashvsr_waits import CASES
from longtake.tests.support.waits import needs_fake_devices, waits

PASSES = 2
pytestmark = needs_fake_devices
waits_of = partial(waits, "model.flashvsr_waits")


@pytest.mark.parametrize("case", ["whole", "v1", "tiles"])
def test_no_pass_waits_for_the_device(case: str) -> None:
    assert waits_of(*CASES)[case] == {}


def test_numbers_read_back_in_each_layer_would_be_seen() -> None:
    assert [*waits_of(*CASES)["counting"].values()] == [PASSES * SMALL.layers]


def test_copies_as_torch_makes_them_would_wait_in_every_pass() -> None:
    places = waits_of("whole", "--plain")["whole"]
    assert sum(count for place, count in places.items() if place.startswith("cpu to")) >= PASSES
