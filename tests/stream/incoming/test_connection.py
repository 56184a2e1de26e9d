"""Live sources over HTTP and UDP, with servers that we did not write and with ones that fail."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import av
import pytest
from PIL import Image

from longtake.errors import BadInput
from longtake.stream.incoming.address import SourceAddress
from longtake.stream.incoming.connection import Connection, SourceLost
from longtake.tests.support.clips import beeps, write_clip
from longtake.tests.support.numbered_frames import number_in
from longtake.tests.support.server_process import free_port
from longtake.tests.support.stream.live_servers import (
    FaultServer,
    fault_server,
    ffmpeg,
    jpeg,
)
from longtake.tests.support.stream.live_site import needs_ffmpeg

COUNT, LIMIT_S, STALL_S = 24, 60.0, 3.0  # time to connect, also on a busy machine
PICTURES = ("-re", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-pix_fmt", "yuv420p")
BOUNDARY = b"--frame\r\n"
STREAM = ("-c:v", "mpeg2video", "-g", "5", "-f", "mpegts")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered pictures as an MPEG transport stream."""
    path = tmp_path_factory.mktemp("clip") / "x.ts"
    write_clip(path, COUNT)
    return path


@pytest.fixture
def server(clip: Path) -> Iterator[FaultServer]:
    """A server of these pictures, which also fails."""
    with fault_server(clip.read_bytes()) as running:
        yield running


def connect(url: str, stall_s: float = LIMIT_S) -> Connection:
    return Connection(SourceAddress.parse(url), stall_s)


def frames(connection: Connection, count: int = 10_000) -> list[av.VideoFrame]:
    """The next pictures, at most to the end."""
    read = iter(connection.next, None)
    return [frame for _, (_, frame) in zip(range(count), read, strict=False)]


def numbers(pictures: list[av.VideoFrame]) -> list[int]:
    return [number_in(picture.to_ndarray(format="rgb24")) for picture in pictures]


@pytest.mark.parametrize(
    "path",
    ["/video", "/moved?to=/video", "/moved?to=/moved?to=/video", "/accent", "/odd"],
)
def test_every_picture_of_a_stream_comes_once_and_in_order(server: FaultServer, path: str) -> None:
    with closing(connect(server.url(path))) as connection:
        assert connection.is_file == (path != "/odd")
        assert numbers(frames(connection)) == [*range(COUNT)]
        assert connection.next() is None


def test_a_file_is_sought_in_and_played_at_its_own_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index of this MP4 is at its end."""
    monkeypatch.setattr("longtake.stream.incoming.connection.BUFFER_BYTES", 512)
    write_clip(tmp_path / "x.mp4", COUNT, fps=48)
    content = (tmp_path / "x.mp4").read_bytes()
    with fault_server(content) as server, closing(connect(server.url("/ranges"))) as connection:
        assert connection.is_file
        timed = [*iter(connection.next, None)]
    assert numbers([frame for _, frame in timed]) == [*range(COUNT)]
    assert timed[-1][0] - timed[0][0] == pytest.approx((COUNT - 1) / 48, abs=1e-3)
    assert len(server.paths) > 1


@pytest.mark.parametrize("flags", [{}, {"movflags": "+faststart"}])
def test_a_file_whose_pictures_come_before_its_index_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, str]
) -> None:
    """Such a server cannot be asked for the pictures again, so that it would be tried for ever."""
    monkeypatch.setattr("longtake.stream.incoming.connection.BUFFER_BYTES", 512)
    write_clip(tmp_path / "x.mp4", COUNT)
    with (
        av.open(tmp_path / "x.mp4") as source,
        av.open(tmp_path / "y.mp4", "w", options=flags) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with fault_server((tmp_path / "y.mp4").read_bytes()) as server:
        if flags:
            with closing(connect(server.url("/video"))) as connection:
                assert numbers(frames(connection)) == [*range(COUNT)]
        else:
            with pytest.raises(BadInput, match="its index at its end, and its server sends whole"):
                connect(server.url("/video"))


def test_a_transport_stream_of_known_length_is_a_file_too(server: FaultServer) -> None:
    with closing(connect(server.url("/video"))) as connection:
        timed = [*iter(connection.next, None)]
        took_s = time.monotonic() - timed[0][0]
    assert took_s > (COUNT - 2) / 16 and len(timed) == COUNT


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_a_file_without_times_is_refused(server: FaultServer, tmp_path: Path, name: str) -> None:
    """Its pictures would come all at once; as a stream they come when they are made."""
    write_clip(tmp_path / f"x.{name}", COUNT, codec={"h264": "libx264", "hevc": "libx265"}[name])
    server.content = (tmp_path / f"x.{name}").read_bytes()
    with pytest.raises(BadInput, match=f"/video is bare {name} without times; put it into a con"):
        connect(server.url("/video"))
    with closing(connect(server.url("/stall"))) as connection:
        assert frames(connection, 1)


def test_a_stream_that_stalls_is_lost_with_its_name(server: FaultServer) -> None:
    said = r"http://127.0.0.1:\d+/stall sent no picture for 3 s; check that it is running"
    with (
        closing(connect(server.url("/stall"), STALL_S)) as opened,
        pytest.raises(SourceLost, match=said),
    ):
        frames(opened)


def test_a_server_that_says_nothing_is_not_waited_for(server: FaultServer) -> None:
    server.content = b""
    with pytest.raises(BadInput, match="sent no picture for 0.3 s; check that it is running"):
        connect(server.url("/stall"), 0.3)


def test_a_stream_that_breaks_off_gives_what_came(server: FaultServer) -> None:
    with closing(connect(server.url("/break"))) as connection:
        read = numbers(frames(connection))
    assert read == [*range(len(read))] and 0 < len(read) < COUNT


@pytest.mark.parametrize(("target", "reason"), [
    ("http://localhost:{port}/video", "redirects to localhost, which is in a private network"),
    ("http://[::1]:{port}/video", "redirects to ::1, which is in a private network"),
    ("http://169.254.169.254/latest", "redirects to 169.254.169.254, which is in a private"),
    ("http://0.0.0.0:{port}/video", "redirects to 0.0.0.0, which is in a private network"),
    ("file:///etc/passwd", "redirects to something other than http and https"),
    ("gopher://127.0.0.1/", "redirects to something other than http and https"),
])  # fmt: skip
def test_a_redirect_leads_to_no_private_place(
    server: FaultServer, target: str, reason: str
) -> None:
    with pytest.raises(BadInput, match=reason):
        connect(server.url(f"/moved?to={target.format(port=server.port)}"))
    assert len(server.paths) == 1


def test_a_private_host_that_the_user_named_may_redirect_to_itself(server: FaultServer) -> None:
    target = server.url("/video", "localhost")
    with closing(connect(server.url(f"/moved?to={target}", "localhost"))) as connection:
        assert len(frames(connection)) == COUNT


@pytest.mark.parametrize("place", ["/locked", "{server}/locked"])
def test_a_login_goes_on_to_the_same_server_alone(server: FaultServer, place: str) -> None:
    own = server.url("").replace("//", "//viewer:secret@")
    with closing(connect(f"{own}/moved?to={place.format(server=server.url(''))}")) as connection:
        assert numbers(frames(connection, 3)) == [0, 1, 2]
    with fault_server(b"") as other, pytest.raises(BadInput, match="asks for a name"):
        connect(f"{own}/moved?to={other.url('/locked')}")


@pytest.mark.parametrize(("login", "path", "advice"), [
    ("", "/locked", "into its address: http://USER:PASSWORD@HOST"),
    ("viewer:guess@", "/locked", "the name or the password in its address is not right"),
    ("viewer:guess@", "/locked?Digest", "wants the kind Digest, and an address gives Basic alone"),
])  # fmt: skip
def test_a_server_that_wants_a_login_says_which(
    server: FaultServer, login: str, path: str, advice: str
) -> None:
    with pytest.raises(BadInput, match=f"asks for a name and a password; .*{advice}") as refusal:
        connect(server.url(path).replace("//", f"//{login}"))
    assert "guess" not in str(refusal.value)


@pytest.mark.parametrize(("path", "reason"), [
    ("/page", "is no video that can be read"), ("/gone", "answers 404 Not Found"),
    ("/loop", "redirects more than 8 times; give"),
    ("/cookie", "more than 8 times and asks for a cookie, which Longtake does not keep; give"),
    ("/moved?to=http://.example/", "cannot be read"), ("/moved?to=http://[::1/", "cannot be read"),
    ("/moved?to=http://127.0.0.1:99999/", "cannot be read"),
])  # fmt: skip
def test_what_is_no_video_has_a_sentence(server: FaultServer, path: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        connect(server.url(path))


def test_a_server_that_is_not_there_has_a_sentence() -> None:
    with pytest.raises(BadInput, match="cannot be read .*; check that it is running"):
        connect(f"http://127.0.0.1:{free_port()}/x")
    with pytest.raises(BadInput, match="cannot be read .*; check that it is running"):
        connect("http://camera..local/x")


@pytest.mark.parametrize("scheme", ["http", "rtsp", "udp"])
def test_a_host_that_nobody_knows_is_not_called_an_error_of_input(scheme: str) -> None:
    said = r"x.invalid:9/1 cannot be read \((?!Input/output)"
    with pytest.raises(BadInput, match=said):
        connect(f"{scheme}://x.invalid:9/1")


@pytest.mark.parametrize("content", [
    b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n",
    b"ffconcat version 1.0\nfile '{path}'\n",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
])  # fmt: skip
def test_a_list_of_other_files_is_not_followed(
    server: FaultServer, clip: Path, content: bytes
) -> None:
    server.content = content.replace(b"{path}", str(clip).encode())
    with pytest.raises(BadInput, match="is no video that can be read"):
        connect(server.url("/video"))


def test_sound_alone_is_refused(server: FaultServer, tmp_path: Path) -> None:
    with av.open(tmp_path / "x.ts", "w") as container:
        track = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(beeps(1, 48000), "fltp", "stereo")
        frame.rate = 48000
        container.mux([*track.encode(frame), *track.encode(None)])
    server.content = (tmp_path / "x.ts").read_bytes()
    with pytest.raises(BadInput, match="live source http.*/video sends no pictures; give the add"):
        connect(server.url("/video"))


def test_a_change_of_size_in_mid_stream_passes(server: FaultServer, tmp_path: Path) -> None:
    write_clip(tmp_path / "x.ts", COUNT, size=(128, 96))
    server.content += (tmp_path / "x.ts").read_bytes()
    with closing(connect(server.url("/video"))) as connection:
        read = [*iter(connection.next, None)]
    sizes = [(frame.width, frame.height) for _, frame in read]
    assert sizes[0] == (96, 64) and sizes[-1] == (128, 96)
    times = [at for at, _ in read]
    assert times == sorted(times)


def test_a_change_of_codec_in_mid_stream_is_a_loss_and_no_wait_without_end(
    server: FaultServer, tmp_path: Path
) -> None:
    """The decoder reads nothing of the codec that follows, and the source is opened anew."""
    for codec in ("libx264", "mpeg4"):
        write_clip(tmp_path / f"{codec}.ts", 4 * COUNT, codec=codec)
    server.content = (tmp_path / "libx264.ts").read_bytes()
    with closing(connect(server.url("/goes-on"), STALL_S)) as connection:
        server.tail = (tmp_path / "mpeg4.ts").read_bytes()
        with pytest.raises(SourceLost, match="sent no picture for 3 s"):
            frames(connection)


def test_an_encoder_that_begins_anew_with_other_streams_goes_on(
    server: FaultServer, tmp_path: Path
) -> None:
    """Its transport stream gives the pictures another number, as other encoders do."""
    count = 4 * COUNT
    for name, first_id in (("one", "256"), ("other", "300")):
        write_clip(tmp_path / f"{name}.ts", count, options={"mpegts_start_pid": first_id})
    parts = ((tmp_path / f"{name}.ts").read_bytes() for name in ("one", "other"))
    server.content = b"".join(parts)
    with closing(connect(server.url("/video"))) as connection:
        read = numbers(frames(connection))
    assert len(read) > count + COUNT and read[-1] == count - 1


@needs_ffmpeg
def test_ffmpeg_as_an_http_server() -> None:
    url = f"http://127.0.0.1:{free_port()}/live.ts"
    with (
        ffmpeg(*PICTURES, *STREAM, "-listen", "1", url),
        closing(_soon(lambda: connect(url))) as connection,
    ):
        assert not connection.is_file
        timed = [connection.next() for _ in range(50)]
    times = [at for at, _ in timed]
    assert times[-1] - times[0] == pytest.approx(49 / 25, abs=0.05)


@needs_ffmpeg
def test_ffmpeg_sends_by_udp_and_goes_away() -> None:
    url = f"udp://127.0.0.1:{free_port()}"
    with ffmpeg(*PICTURES, *STREAM, f"{url}?pkt_size=1316"):
        connection = connect(url)
        assert len(frames(connection, 20)) == 20
    connection.close()
    with pytest.raises(BadInput, match=r"udp://127.0.0.1:\d+ sent no picture for 1 s"):
        connect(url, 1.0)


def test_what_this_ffmpeg_lacks_is_named() -> None:
    with pytest.raises(BadInput, match="has no srt; send the pictures by udp, rtsp or http|check"):
        connect(f"srt://127.0.0.1:{free_port()}")


def part(colour: int) -> bytes:
    """One picture of motion JPEG, as cameras send it."""
    file = jpeg((colour, colour, colour))
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(file)}\r\n\r\n"
    return head.encode() + file + b"\r\n" + BOUNDARY


def test_pictures_of_motion_jpeg_are_of_the_time_when_they_come(server: FaultServer) -> None:
    """FFmpeg says 25 a second of any camera: these 100 would end in four seconds."""
    server.content, server.tail = BOUNDARY + b"".join(map(part, range(100))), part(200)
    with closing(connect(server.url("/goes-on"))) as connection:
        timed = [(connection.next(), time.monotonic()) for _ in range(110)]
    assert all(picture is not None and picture[0] <= now for picture, now in timed)


def grain() -> bytes:
    """A picture that is larger than what FFmpeg reads first."""
    file = io.BytesIO()
    Image.effect_noise((320, 240), 90.0).save(file, "JPEG", quality=95)
    assert file.tell() > 1 << 15
    return file.getvalue()


def test_large_pictures_of_motion_jpeg_need_no_parts(server: FaultServer) -> None:
    """FFmpeg has another name for them than for small ones."""
    server.content, server.tail = grain() * 20, grain()
    with closing(connect(server.url("/goes-on"))) as connection:
        timed = [(connection.next(), time.monotonic()) for _ in range(30)]
    assert all(picture is not None and picture[0] <= now for picture, now in timed)


def test_a_stream_that_stalls_while_it_is_opened_is_called_silent(
    server: FaultServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.content = grain() * 20
    with pytest.raises(BadInput, match="sent no picture for 0.5 s; check that it is running"):
        connect(server.url("/stall"), 0.5)
    assert capfd.readouterr().err == ""  # PyAV prints what it does not raise


@pytest.mark.parametrize("path", ["/video", "/break"])
def test_motion_jpeg_that_ends_is_no_damaged_video(server: FaultServer, path: str) -> None:
    nothing = b"Content-Type: image/jpeg\r\nContent-Length: 0\r\n\r\n\r\n" + BOUNDARY
    server.content = BOUNDARY + b"".join([part(0), nothing, *map(part, range(20))])
    with closing(connect(server.url(path))) as connection:
        assert not connection.is_file
        assert len(frames(connection)) >= 9
        assert connection.next() is None


def test_a_read_ends_when_another_thread_interrupts_it(server: FaultServer) -> None:
    connection, read = connect(server.url("/stall")), list[av.VideoFrame]()
    thread = threading.Thread(target=lambda: read.extend(frames(connection)))
    thread.start()
    while len(server.paths) < 1 or thread.is_alive():
        connection.interrupt()
        thread.join(0.1)
    connection.close()
    assert len(read) <= COUNT


def _soon(attempt: Callable[[], Connection]) -> Connection:
    """What succeeds once the server is up."""
    for _ in range(600):
        try:
            return attempt()
        except BadInput as error:
            if "check that it is running" not in str(error):
                raise
            threading.Event().wait(0.1)
    return attempt()
