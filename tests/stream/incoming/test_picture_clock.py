"""When the pictures of a live source are taken to come, whatever its own clock says."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import av
import pytest

from longtake.stream.incoming.address import SourceAddress
from longtake.stream.incoming.connection import Connection, PictureClock
from longtake.tests.support.stream.live_servers import fault_server

STALL_S = 20.0


def test_times_never_go_back_and_only_a_file_waits() -> None:
    now, slept = [100.0], list[float]()
    live = PictureClock(lambda: now[0], slept.append)
    assert [live.time(at) for at in (5.0, 5.5, 6.0)] == [100.0, 100.5, 101.0]
    now[0] = 103.0
    assert [live.time(at) for at in (0.0, 0.5)] == [103.0, 103.5]  # the source began anew
    now[0] = 200.0
    assert live.time(90.0) == 200.0  # a hole in the stream
    assert slept == []
    file = PictureClock(lambda: now[0], slept.append, is_paced=True)
    assert [file.time(at) for at in (1.0, 1.5)] == [200.0, 200.5] and slept == [0.5]


def test_pictures_of_a_clock_that_stands_still_are_of_the_time_when_they_come() -> None:
    """A run waits for pictures of other times, and would wait for ever."""
    now = [100.0]
    clock = PictureClock(lambda: now[0])
    times = [clock.time(7.0)]
    for _ in range(4):
        now[0] += 0.5
        times.append(clock.time(7.0))
    assert times == [100.0, 100.0, 100.0, 101.5, 102.0] and clock.stands_still
    assert [clock.time(at) for at in (7.5, 8.0)] == [102.0, 102.5]  # it runs again
    assert not clock.stands_still


def test_a_source_whose_clock_stands_still_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with av.open(tmp_path / "x.ts", "w") as container:
        video = container.add_stream("mpeg2video", rate=25, options={"g": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for _ in range(24):
            for packet in video.encode(av.VideoFrame(64, 48, "yuv420p")):
                packet.pts = packet.dts = 0
                container.mux(packet)
    content = (tmp_path / "x.ts").read_bytes()
    with fault_server(content) as server:
        server.tail = content
        address = SourceAddress.parse(server.url("/goes-on"))
        with closing(Connection(address, STALL_S)) as connection:
            first = last = _next_time(connection)
            until = time.monotonic() + STALL_S
            while not caplog.messages and time.monotonic() < until:
                last = _next_time(connection)
            last = max(last, _next_time(connection))
    assert last > first + PictureClock.STILL_S
    [text] = caplog.messages
    assert "/goes-on gives all its pictures the same time" in text


def _next_time(connection: Connection) -> float:
    picture = connection.next()
    assert picture is not None
    return picture[0]
