"""What tests wait for, and the ports that they take, on a machine that is busy or paused."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import pytest

from longtake.tests.support.server_process import PORTS, free_port
from longtake.tests.support.stream.live_servers import wait_until

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_pause_of_the_whole_machine_does_not_end_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    hours, looks = itertools.count(), itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: 3600.0 * next(hours))
    wait_until(lambda: next(looks) == 3)


def test_what_never_happens_ends_a_wait() -> None:
    with pytest.raises(AssertionError, match="it did not happen"):
        wait_until(lambda: False, 0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
def test_a_free_port_is_none_that_connections_get() -> None:
    first = int(RANGE.read_text().split()[0])
    if first < PORTS.stop:
        pytest.skip(f"here connections have ports from {first} on")
    assert all(free_port() < first for _ in range(10))
