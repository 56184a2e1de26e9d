"""What the reading thread of a live source does with an error that nobody expects."""

from __future__ import annotations

from contextlib import closing

import pytest

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
    def connect() -> PictureSource:
        return BrokenSource() if opens else BrokenSource().next()

    with (
        closing(Receiver(connect, (32, 32), 16.0, 4, lambda _: None)) as receiver,
        pytest.raises(ZeroDivisionError, match="a fault of ours"),
    ):
        wait_until(lambda: receiver.is_ready(1))
