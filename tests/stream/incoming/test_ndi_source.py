"""An NDI source as a live source, on a stand-in for NDI's library."""

from __future__ import annotations

from contextlib import closing
from threading import Event

import numpy as np
import pytest

from longtake.errors import BadInput
from longtake.stream.incoming.address import SourceAddress
from longtake.stream.incoming.connection import SourceLost
from longtake.stream.incoming.ndi_source import NdiOpening, NdiSource
from longtake.stream.incoming.opening import opening
from longtake.stream.incoming.receiver import Receiver
from longtake.stream.ndi.input import NdiInput
from longtake.tests.support.stream.live_servers import wait_until
from longtake.tests.support.stream.ndi_stand_in import Kind, Network

OBS, SHORT_S = "PC (OBS)", 0.05


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network with one source, which shows a picture."""
    network = Network([OBS])
    network.install(monkeypatch)
    network.show((64, 48), 1000.0)
    return network


def test_each_picture_comes_once_at_the_time_of_the_source(network: Network) -> None:
    source = NdiSource(OBS, SHORT_S, Event())
    first, frame = source.next() or pytest.fail("no picture")
    assert (frame.width, frame.height) == (64, 48) and source.name == OBS and not source.is_file
    with pytest.raises(SourceLost, match=r"source PC \(OBS\) sent no picture for 0.05 s; check"):
        source.next()  # it is still the same one
    network.show((64, 48), 1000.04)
    second, _ = source.next() or pytest.fail("no picture")
    assert second - first == pytest.approx(0.04)
    network.show((64, 48), 900.0)  # the source's clock is set back
    third, _ = source.next() or pytest.fail("no picture")
    assert third >= second


def test_a_source_without_times_has_those_of_its_pictures_coming(network: Network) -> None:
    network.show((64, 48), 9.3e11)
    source = NdiSource(OBS, SHORT_S, Event())
    first, _ = source.next() or pytest.fail("no picture")
    network.frame.timecode = 1.0
    second, _ = source.next() or pytest.fail("no picture")
    assert first <= second < first + 1e6


def test_rows_with_padding_and_another_size_are_read(network: Network) -> None:
    source = NdiSource(OBS, SHORT_S, Event())
    source.next()
    network.show((6, 4), 1000.1, fill=7, padding=20)
    _, frame = source.next() or pytest.fail("no picture")
    plane = frame.planes[0]
    assert (frame.width, frame.height, frame.format.name) == (6, 4, "uyvy422")
    assert (np.frombuffer(plane, np.uint8).reshape(4, plane.line_size)[:, :12] == 7).all()


def test_a_source_that_hangs_up_has_ended(network: Network) -> None:
    source = NdiSource(OBS, 60.0, Event())
    source.next()
    network.connections = 0
    assert source.next() is None
    source.close()
    assert not network.is_open
    source.close()


def test_no_first_picture_is_told_and_the_source_let_go(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.stream.incoming.ndi_source.FIRST_S", 0.1)
    network.frame.size = (0, 0)
    network.connections = 0  # it comes about with the first pictures
    with pytest.raises(BadInput, match="sent no picture for 0.1 s"):  # not a short stall's 0.05
        NdiSource(OBS, SHORT_S, Event())
    assert not network.is_open


def test_pictures_of_another_kind_are_named(network: Network) -> None:
    network.frame.fourcc = Kind.P216
    with pytest.raises(BadInput, match="cannot be read .pictures of the kind P216.; "):
        NdiSource(OBS, SHORT_S, Event())
    assert not network.is_open


def test_a_fault_of_ndis_library_is_a_loss_and_ends_no_run(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: NdiInput) -> None:
        raise RuntimeError("no memory for a frame")

    with closing(NdiSource(OBS, 60.0, Event())) as source:
        source.next()
        monkeypatch.setattr(NdiInput, "picture", fail)
        with pytest.raises(SourceLost, match="failed .RuntimeError: no memory for a frame.; check"):
            source.next()
    with pytest.raises(BadInput, match="NDI's library failed"):
        NdiSource(OBS, 60.0, Event())
    assert not network.is_open


def test_a_library_that_fails_as_it_connects_has_a_sentence(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no socket")

    monkeypatch.setattr("longtake.stream.ndi.input.find", fail)
    with pytest.raises(BadInput, match="NDI's library failed .RuntimeError: no socket.; check"):
        NdiSource(OBS, 60.0, Event())


def test_the_end_of_the_reading_ends_the_waiting(network: Network) -> None:
    ended = Event()
    source = NdiSource(OBS, 1e9, ended)
    source.next()
    ended.set()
    with pytest.raises(SourceLost):
        source.next()


def test_what_was_found_by_a_part_of_its_name_is_opened_again_by_all_of_it(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.stream.ndi.finder.SETTLE_S", 0.0)
    opens = NdiOpening("obs", SHORT_S)
    opens(Event()).close()
    network.looks = [[OBS, "A (OBS)"]]
    assert opens(Event()).name == OBS


def test_a_change_of_size_in_the_middle_is_told(network: Network) -> None:
    told = list[str]()
    connect = opening(SourceAddress.parse(f"ndi://{OBS}"), 60.0)
    with closing(Receiver(connect, (32, 32), 16.0, 4, told.append)) as receiver:
        wait_until(lambda: receiver.is_ready(1))
        network.show((96, 64), 1000.5)
        wait_until(lambda: told)
        assert receiver.take(1).shape == (1, 3, 32, 32)
    assert not network.is_open
    assert told[0].startswith("The live source changed its size from 64x48 to 96x64;")


def test_without_the_package_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("longtake.stream.ndi.library.PACKAGE", "no_such_package")
    connect = opening(SourceAddress.parse("ndi://OBS"), SHORT_S)
    with pytest.raises(BadInput, match="needs the package .* -m pip install no_such_package"):
        connect(Event())
