"""The reading thread of a live source: an error that nobody expects, and an early end."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from longtake.errors import BadInput
from longtake.stream.incoming.receiver import PictureSource, Receiver
from longtake.stream.video.display.upright import PLAIN
from longtake.tests.support.stream.live_servers import wait_until


class BrokenSource:
    """Fails in a way that no source should."""

    header, is_file = PLAIN, False

    def next(self) -> None:
        raise ZeroDivisionError("a fault of ours")

    def interrupt(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("opens", [True, False])
def test_a_fault_of_ours_ends_the_run_that_waits_for_pictures(opens: bool) -> None:
    def connect(_: threading.Event) -> PictureSource:
        return BrokenSource() if opens else BrokenSource().next()

    with (
        closing(Receiver(connect, (32, 32), 16.0, 4, lambda _: None)) as receiver,
        pytest.raises(ZeroDivisionError, match="a fault of ours"),
    ):
        wait_until(lambda: receiver.is_ready(1))


def test_a_source_that_is_still_being_opened_is_given_up_at_the_end() -> None:
    begun, ends = threading.Event(), list[threading.Event]()

    def connect(ended: threading.Event) -> PictureSource:
        ends.append(ended)
        begun.set()
        ended.wait()
        raise BadInput("Nothing was found.")

    receiver = Receiver(connect, (32, 32), 16.0, 4, lambda _: None)
    begun.wait()
    assert not ends[0].is_set()
    receiver.close()
    wait_until(lambda: not receiver._thread.is_alive())
