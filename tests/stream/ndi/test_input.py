"""Pictures of NDI's own sender, in a process of its own, as a live source."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Event

import av
import numpy as np
import pytest

from longtake.errors import BadInput
from longtake.stream.incoming.address import SourceAddress
from longtake.stream.incoming.ndi_source import NdiSource
from longtake.stream.incoming.opening import opening
from longtake.stream.incoming.receiver import Receiver
from longtake.stream.ndi.finder import find
from longtake.stream.ndi.input import NdiInput
from longtake.stream.video.display.upright import Upright
from longtake.stream.video.reading.reader import Resizer
from longtake.tests.support.numbered_frames import colour, number_in
from longtake.tests.support.stream.live_servers import wait_until
from longtake.tests.support.stream.ndi_programs import PATIENCE_S, ndi_sender, needs_ndi

pytestmark = needs_ndi
SIZE, SHOT = (96, 72), (64, 48)
THREADS = "/proc/self/task"


def received(source: NdiInput, count: int) -> Iterator[tuple[float | None, av.VideoFrame]]:
    """The next pictures and their times."""
    for _ in range(count):
        picture = None
        while picture is None:
            picture = source.picture()
            time.sleep(source.pause_s)
        yield picture


def test_pictures_come_once_in_order_with_the_times_and_colours_of_the_source() -> None:
    with ndi_sender(SIZE, "In order ü"), closed("In order ü") as source:
        pictures = list(received(source, 30))
    times = [at for at, _ in pictures]
    shown = [Resizer(*SIZE).resize(frame, Upright()) for _, frame in pictures]
    numbers = [number_in(picture) for picture in shown]
    assert numbers == sorted(set(numbers)) and times == sorted(set(times))
    assert source.name.endswith(" (In order ü)")
    for number, picture in zip(numbers, shown, strict=True):
        mean = picture[4:40, 4:-4].reshape(-1, 3).mean(0)
        assert np.abs(mean - colour(number)).max() < 8  # BT.601 would be off by 18


@contextmanager
def closed(name: str) -> Iterator[NdiInput]:
    """The input from a source, closed at the end."""
    source = NdiInput(name, PATIENCE_S, Event())
    try:
        yield source
    finally:
        source.close()


def test_a_source_that_goes_is_told_and_taken_up_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("longtake.stream.incoming.receiver.RETRY_S", 0.1)
    told = list[str]()
    connect = opening(SourceAddress.parse("ndi://comes and GOES"), PATIENCE_S)
    with closing(Receiver(connect, SHOT, 16.0, 4, told.append)) as receiver:
        with ndi_sender(SIZE, "Comes and goes"):
            wait_until(lambda: receiver.is_ready(4))
            assert receiver.take(4, 1).shape == (5, 3, 48, 64)
        wait_until(lambda: receiver.is_lost)
        with ndi_sender((128, 72), "Comes and goes"):
            wait_until(lambda: len(told) == 3)
            wait_until(lambda: receiver.is_ready(4))
            messages = list(told)  # the end of this sender may be told too, before the receiver's
    assert messages == [
        "The live source has ended; the shot goes on without it until it is back.",
        "The live source is back.",
        "The live source changed its size from 96x72 to 128x72; its pictures are scaled and "
        "cropped to the shot's size.",
    ]


def test_a_name_that_fits_two_sources_is_refused_with_both() -> None:
    with ndi_sender(SIZE, "Stage left", "Stage right"):
        for name in ("stage left", "stage right"):
            find(name, PATIENCE_S, Event())
        with pytest.raises(BadInput, match=r"fits 2 .* \(Stage left\), .* \(Stage right\); give"):
            find("stage", PATIENCE_S, Event())
        with pytest.raises(BadInput, match=r"called Balcony was .* seen are .*\(Stage left\), "):
            find("Balcony", 2.0, Event())


@pytest.mark.skipif(not os.path.isdir(THREADS), reason="counts threads as Linux tells them")
def test_the_threads_and_sockets_of_a_source_end_with_it() -> None:
    counts = list[tuple[int, int]]()
    with ndi_sender(SIZE, "Again"):
        for _ in range(4):
            source = NdiSource("Again", PATIENCE_S, Event())
            source.next()
            source.close()
            counts.append((len(os.listdir(THREADS)), len(os.listdir("/proc/self/fd"))))
    assert len(set(counts[1:])) == 1
