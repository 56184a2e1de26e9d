"""Pictures of a page as a live source: the newest one, what a page says instead, and the end."""

from __future__ import annotations

import threading
import time

import pytest

from longtake.errors import BadInput
from longtake.stream.incoming.connection import SourceLost
from longtake.stream.incoming.inlet import FAULTS, Fault, Inlet, Wish
from longtake.stream.incoming.page_source import PageSource
from longtake.stream.incoming.receiver import Connect, Receiver
from longtake.tests.support.stream.live_servers import jpeg, wait_until

WISH, LIMIT_S = Wish("webcam", 32, 32, 16.0), 60.0


def soon(inlet: Inlet, *news: bytes | Fault) -> None:
    """Give news one after another, as soon as the run wants them."""

    def give() -> None:
        wait_until(lambda: inlet.wish)
        for part in news:
            inlet.put(part) if isinstance(part, bytes) else inlet.fail(part)
            time.sleep(0.1)

    threading.Thread(target=give, daemon=True).start()


def test_nothing_is_taken_that_nobody_wants() -> None:
    changes = list[Wish | None]()
    inlet = Inlet(lambda: changes.append(inlet.wish))
    assert not inlet.put(jpeg((255, 0, 0))) and not inlet.fail("lost")
    inlet.ask(WISH)
    assert inlet.put(b"old") and inlet.put(b"new") and inlet.take(0) == b"new"
    assert inlet.take(0.01) is None
    inlet.close()
    assert inlet.wish is None and not inlet.put(b"late") and changes == [WISH]


def test_damaged_pictures_are_passed_over_and_the_next_one_counts() -> None:
    inlet = Inlet(lambda: None)
    soon(inlet, b"no jpeg", jpeg((0, 0, 255))[:100], jpeg((255, 0, 0)))
    source = PageSource(inlet, WISH, 1.0, threading.Event(), LIMIT_S)
    _, frame = source.next()
    red, green, blue = frame.to_ndarray(format="rgb24").reshape(-1, 3).mean(0)
    assert red > 240 and green < 15 and blue < 15
    with pytest.raises(SourceLost, match="No page sent a picture for 0.2 s"):
        PageSource.next(_impatient(source))
    source.close()
    assert inlet.wish is None


def _impatient(source: PageSource) -> PageSource:
    source._stall_s = 0.2
    return source


def test_a_page_may_be_allowed_after_it_was_refused() -> None:
    inlet = Inlet(lambda: None)
    soon(inlet, "denied", jpeg((0, 255, 0)))
    assert PageSource(inlet, WISH, 1.0, threading.Event(), LIMIT_S).next()[1].width == 64


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_sentence(fault: Fault) -> None:
    inlet = Inlet(lambda: inlet.fail(fault))  # as soon as pictures are wanted
    with pytest.raises(BadInput) as refused:
        PageSource(inlet, WISH, 1.0, threading.Event(), 0.1)
    assert str(refused.value) == FAULTS[fault] and inlet.wish is None


def test_a_camera_that_is_lost_is_asked_for_again() -> None:
    inlet, told = Inlet(lambda: None), list[str]()

    receiver = Receiver(connecting(inlet), (32, 32), 16.0, 4, told.append)
    try:
        soon(inlet, jpeg((255, 0, 0)))
        wait_until(lambda: receiver.is_ready(1))
        assert receiver.take(1).shape == (1, 3, 32, 32)
        inlet.fail("lost")
        wait_until(lambda: receiver.is_lost)
        wait_until(lambda: inlet.wish is None)  # what comes before is not of the next connection
        soon(inlet, jpeg((255, 0, 0), (96, 96)))
        wait_until(lambda: not receiver.is_lost)
        wait_until(lambda: len(told) == 3)
    finally:
        inlet.close()
        receiver.close()
    assert told[:2] == [FAULTS["lost"], "The live source is back."]
    assert told[2].startswith("The live source changed its size from 64x48 to 96x96;")


def connecting(inlet: Inlet) -> Connect:
    """What opens a page's pictures for a receiver."""
    return lambda ended: PageSource(inlet, WISH, LIMIT_S, ended, LIMIT_S)


def test_a_source_whose_reader_has_gone_takes_nothing_from_the_next_one() -> None:
    inlet = Inlet(lambda: None)
    gone = Receiver(connecting(inlet), (32, 32), 16.0, 4, lambda text: None)
    wait_until(lambda: inlet.wish)
    gone.close()
    wait_until(lambda: inlet.wish is None)  # nobody asks the page any more
    gone = Receiver(connecting(inlet), (32, 32), 16.0, 4, lambda text: None)
    wait_until(lambda: inlet.wish)
    first = inlet.wish
    following = Receiver(connecting(inlet), (32, 32), 16.0, 4, lambda text: None)
    wait_until(lambda: inlet.wish is not first)
    try:
        gone.close()
        assert not gone._thread.is_alive() and inlet.wish is not None
        assert inlet.put(jpeg((255, 0, 0)))
        wait_until(lambda: following.is_ready(1))
    finally:
        following.close()
    assert inlet.wish is None


def test_the_end_of_the_run_ends_the_waiting() -> None:
    inlet = Inlet(lambda: None)
    threading.Timer(0.2, inlet.close).start()
    began = time.monotonic()
    with pytest.raises(BadInput):
        PageSource(inlet, WISH, 1.0, threading.Event(), 60.0)
    assert time.monotonic() - began < 30


def test_a_fault_after_a_picture_comes_next_and_a_picture_after_a_fault_replaces_it() -> None:
    inlet = Inlet(lambda: None)
    inlet.ask(WISH)
    inlet.put(b"one")
    inlet.fail("lost")
    assert [inlet.take(0), inlet.take(0), inlet.take(0)] == [b"one", "lost", None]
    inlet.fail("denied")
    inlet.put(b"two")
    assert [inlet.take(0), inlet.take(0)] == [b"two", None]
