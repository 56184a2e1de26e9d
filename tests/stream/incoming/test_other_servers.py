"""Live sources from servers that were not written here: RTSP, TLS, SRT."""

from __future__ import annotations

import signal
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import av
import pytest

from longtake.errors import BadInput
from longtake.stream.incoming.address import SourceAddress
from longtake.stream.incoming.connection import Connection, SourceLost
from longtake.stream.incoming.receiver import Receiver
from longtake.tests.support.clips import write_clip
from longtake.tests.support.numbered_frames import number_in
from longtake.tests.support.server_process import free_port
from longtake.tests.support.stream.live_servers import ffmpeg, wait_until
from longtake.tests.support.stream.live_site import needs_srt
from longtake.tests.support.stream.media_servers import (
    NEEDS_GSTREAMER,
    gstreamer,
    needs_openssl,
    rtsp_server,
    self_signed,
    soon,
    tls_server,
)

COUNT, FPS, LIMIT_S, STALL_S = 50, 25, 60.0, 4.0  # time to connect, also on a busy machine
PATIENTLY = "connect_timeout=60000"  # until the other program listens
needs_gstreamer = pytest.mark.skipif(gstreamer() is None, reason=NEEDS_GSTREAMER)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of numbered pictures."""
    path = tmp_path_factory.mktemp("clip") / "x.mp4"
    write_clip(path, COUNT, fps=FPS)
    return path


def connect(url: str, stall_s: float = LIMIT_S) -> Connection:
    return Connection(SourceAddress.parse(url), stall_s)


def read(connection: Connection, count: int = 10_000) -> list[tuple[float, int]]:
    """Times and numbers of the next pictures, at most to the end."""
    pictures = zip(range(count), iter(connection.next, None), strict=False)
    return [(at, number_in(frame.to_ndarray(format="rgb24"))) for _, (at, frame) in pictures]


@needs_gstreamer
@pytest.mark.parametrize("user", ["", "viewer:a%20secret"])
def test_gstreamers_rtsp_server_gives_each_picture_in_order_at_its_time(
    clip: Path, tmp_path: Path, user: str
) -> None:
    with rtsp_server(clip, tmp_path / "log", user.replace("%20", " ")) as (url, _):
        named = url.replace("//", f"//{user}@" if user else "//")
        with closing(connect(named)) as connection:
            assert not connection.is_file
            pictures = read(connection)
    numbers = [number for _, number in pictures]
    assert numbers == [*range(numbers[0], COUNT)] and numbers[0] < 5
    times = [at for at, _ in pictures[1:]]  # the first one comes without a time
    assert [at - times[0] for at in times] == pytest.approx(
        [number / FPS for number in range(len(times))], abs=1e-3
    )


@needs_gstreamer
@pytest.mark.parametrize("transport", ["TCP", "UDP"])
def test_a_camera_that_takes_one_transport_only_is_received(
    clip: Path, tmp_path: Path, transport: str
) -> None:
    with (
        rtsp_server(clip, tmp_path / "log", transport=transport) as (url, _),
        closing(connect(url)) as connection,
    ):
        numbers = [number for _, number in read(connection)]
    assert numbers == sorted(numbers) and len(numbers) > COUNT // 2  # UDP may lose some


@needs_gstreamer
def test_an_rtsp_server_that_refuses_has_a_sentence_without_the_password(
    clip: Path, tmp_path: Path
) -> None:
    with rtsp_server(clip, tmp_path / "log", "viewer:right") as (url, _):
        for wrong in ("", "viewer:guess@"):
            with pytest.raises(BadInput, match="cannot be read .*401 Unauthorized") as refusal:
                connect(url.replace("//", f"//{wrong}"))
            assert "guess" not in str(refusal.value)
    with (
        rtsp_server(clip, tmp_path / "log") as (url, _),
        pytest.raises(BadInput, match="cannot be read .*404 Not Found"),
    ):
        connect(f"{url}/2")


@needs_gstreamer
def test_an_rtsp_server_that_falls_silent_is_lost(clip: Path, tmp_path: Path) -> None:
    with (
        rtsp_server(clip, tmp_path / "log") as (url, process),
        closing(connect(url, STALL_S)) as connection,
    ):
        assert len(read(connection, 5)) == 5
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(SourceLost, match=f"{url} sent no picture for 4 s"):
                read(connection)
        finally:
            process.send_signal(signal.SIGCONT)


@needs_gstreamer
def test_an_rtsp_server_that_is_killed_and_comes_back_is_received_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.stream.incoming.receiver.RETRY_S", 0.1)
    port, said = free_port(), list[str]()

    def open_receiver() -> Receiver:
        address = SourceAddress.parse(f"rtsp://127.0.0.1:{port}/live")
        return Receiver(lambda _: Connection(address, LIMIT_S), (96, 64), FPS, 4, said.append)

    with rtsp_server(clip, tmp_path / "log", port=port) as (_, process):
        receiver = open_receiver()
        wait_until(lambda: receiver.is_ready(4))
        assert receiver.take(4).shape == (4, 3, 64, 96)
        process.kill()
        process.wait()
        wait_until(lambda: receiver.is_lost)
    with rtsp_server(clip, tmp_path / "log", port=port):
        wait_until(lambda: "The live source is back." in said)
        wait_until(lambda: receiver.is_ready(4))
    receiver.close()


@needs_gstreamer
@needs_openssl
def test_rtsps_is_encrypted_and_its_certificate_is_not_checked(clip: Path, tmp_path: Path) -> None:
    """As the security page says, whatever the rule of the FFmpeg at hand."""
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(part.read_bytes() for part in self_signed(tmp_path)))
    with (
        rtsp_server(clip, tmp_path / "log", certificate=str(both)) as (url, _),
        closing(connect(url)) as connection,
    ):
        assert url.startswith("rtsps://") and len(read(connection, 20)) == 20


@needs_openssl
def test_a_certificate_that_nobody_signed_has_a_sentence_and_can_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "x.ts", COUNT, fps=FPS)
    said = (
        r"has a certificate that this machine does not trust \(self.signed certificate\); name the "
        "certificate's file in the variable SSL_CERT_FILE, or use http"
    )
    with tls_server(tmp_path) as (url, certificate):
        with pytest.raises(BadInput, match=said):
            connect(f"{url}/x.ts")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with closing(connect(f"{url}/x.ts")) as connection:
            assert [number for _, number in read(connection)] == [*range(COUNT)]
        elsewhere = url.replace("127.0.0.1", "localhost")
        with pytest.raises(BadInput, match="does not trust .*not valid for 'localhost'"):
            connect(f"{elsewhere}/x.ts")


def has_srt() -> bool:
    """Whether this PyAV's FFmpeg opens SRT."""
    try:
        av.open("srt://127.0.0.1:1", timeout=0.1)
    except av.ProtocolNotFoundError:
        return False
    except av.FFmpegError:
        return True
    return True


@needs_srt
def test_ffmpeg_passes_srt_on_by_udp(clip: Path) -> None:
    """What the help page says of builds without SRT."""
    port, own = free_port(), free_port()
    copy = ("-c", "copy", "-f", "mpegts")
    with (
        ffmpeg("-re", "-stream_loop", "-1", "-i", str(clip), *copy,
               f"srt://127.0.0.1:{port}?mode=listener"),
        ffmpeg("-i", f"srt://127.0.0.1:{port}?{PATIENTLY}", *copy, f"udp://127.0.0.1:{own}"),
        closing(connect(f"udp://127.0.0.1:{own}")) as connection,
    ):  # fmt: skip
        numbers = [number for _, number in read(connection, 60)]
    steps = {(after - before) % COUNT for before, after in pairwise(numbers)}
    assert steps == {1}


@needs_srt
def test_ffmpeg_sends_by_srt_where_this_pyav_has_it(clip: Path) -> None:
    port = free_port()
    with ffmpeg(
        "-re", "-i", str(clip), "-c", "copy", "-f", "mpegts",
        f"srt://127.0.0.1:{port}?mode=listener",
    ):  # fmt: skip
        if not has_srt():
            with pytest.raises(BadInput, match="build of FFmpeg has no srt; send the pictures"):
                connect(f"srt://127.0.0.1:{port}", 5)
            pytest.skip("this PyAV has no SRT, and says so")
        with closing(soon(lambda: connect(f"srt://127.0.0.1:{port}"))) as connection:
            numbers = [number for _, number in read(connection, 20)]
    assert numbers == [*range(numbers[0], numbers[0] + 20)]
