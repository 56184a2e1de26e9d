"""A stand-in for cyndilib's receiving half: a network of names, and pictures that tests set."""

from __future__ import annotations

from enum import IntEnum
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest


class Kind(IntEnum):
    """Some of NDI's kinds of pictures."""

    UYVY = 1
    BGRA = 2
    P216 = 3


class Frame(bytearray):
    """The newest picture, as a buffer; 0 x 0 pixels until there is one."""

    size, stride, fourcc, rate = (0, 0), 0, Kind.UYVY, Fraction(25)
    timestamp = timecode = 0.0

    @property
    def xres(self) -> int:
        return self.size[0]

    def get_resolution(self) -> tuple[int, int]:
        return self.size

    def get_line_stride(self) -> int:
        return self.stride

    def get_frame_rate(self) -> Fraction:
        return self.rate

    def get_timestamp_posix(self) -> float:
        return self.timestamp

    def get_timecode_posix(self) -> float:
        return self.timecode


class Network:
    """What is on the network: `looks` are the names seen, one list for each look; the last stays.

    `frame` is the newest picture of whatever is received, `connections` how many sources send.
    """

    def __init__(self, *looks: list[str]) -> None:
        self.looks, self.frame, self.connections = [*looks], Frame(), 1
        self.is_open = False

    def show(self, size: tuple[int, int], at: float, fill: int = 128, padding: int = 0) -> None:
        """Make the newest picture one of UYVY, sent at second `at`."""
        frame = self.frame
        frame.size, frame.stride, frame.fourcc = size, 2 * size[0] + padding, Kind.UYVY
        frame[:] = bytes([fill]) * (frame.stride * size[1])
        frame.timestamp = frame.timecode = at

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of NDI's library."""
        for module in ("finder", "input"):
            patch.setattr(f"longtake.stream.ndi.{module}.load", self._load)

    def _load(self, module: str) -> Any:
        modes = SimpleNamespace(UYVY_BGRA=0, highest=0)
        return {
            "finder": SimpleNamespace(Finder=lambda: _Finder(self)),
            "receiver": SimpleNamespace(Receiver=lambda **_: _Receiver(self)),
            "video_frame": SimpleNamespace(VideoFrameSync=lambda: self.frame),
            "wrapper.ndi_recv": SimpleNamespace(RecvColorFormat=modes, RecvBandwidth=modes),
            "wrapper.ndi_structs": SimpleNamespace(FourCC=Kind),
        }[module]


class _Finder:
    def __init__(self, network: Network) -> None:
        self._network, self._seen = network, list[str]()

    def update_sources(self) -> None:
        looks = self._network.looks
        self._seen = looks.pop(0) if len(looks) > 1 else looks[0]

    def get_source_names(self) -> list[str]:
        return self._seen

    def get_source(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name)


class _Receiver:
    def __init__(self, network: Network) -> None:
        self._network = network
        self.frame_sync = SimpleNamespace(
            set_video_frame=lambda _: None, capture_video=lambda: None
        )

    def set_source(self, source: SimpleNamespace) -> None:
        self._network.is_open = True

    def get_num_connections(self) -> int:
        return self._network.connections

    def disconnect(self) -> None:
        self._network.is_open = False
