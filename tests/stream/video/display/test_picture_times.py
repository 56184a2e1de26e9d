"""Files without times of display, with B-frames, are read picture by picture."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from longtake.stream.incoming.address import SourceAddress
from longtake.stream.incoming.connection import Connection
from longtake.stream.lazy.frame_chunk import to_pictures
from longtake.stream.video.reading.source import FrameRequest, VideoClip
from longtake.tests.support.clips import numbers, pieces
from longtake.tests.support.numbered_frames import numbered_frames
from longtake.tests.support.stream.live_servers import fault_server

COUNT, FPS = 60, 25
FILES = pytest.mark.parametrize(("name", "codec"), [
    ("x.avi", "libx264"), ("x.avi", "mpeg4"), ("x.avi", "mjpeg"), ("x.m2v", "mpeg2video"),
    ("x.mpg", "libx264"),
])  # fmt: skip


def write(path: Path, codec: str) -> None:
    """Numbered pictures, with B-frames where the codec has them."""
    with av.open(path, "w") as container:
        video = container.add_stream(codec, rate=FPS, options={"g": "12", "q": "2"})
        video.width, video.height = 96, 64
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec != "mjpeg":
            video.codec_context.max_b_frames = 2
        for number in range(COUNT):
            [picture] = to_pictures(numbered_frames(number, 1, 96, 64))
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(video.encode())


@FILES
@pytest.mark.parametrize("first", [0, 7, 33])
def test_each_picture_is_read_once_at_its_time(
    tmp_path: Path, name: str, codec: str, first: int
) -> None:
    write(tmp_path / name, codec)
    request = FrameRequest(fps=Fraction(FPS), start=first / FPS)
    clip = VideoClip.probe(str(tmp_path / name), request)
    assert clip.frame_total == COUNT - first
    assert [number for piece in pieces(clip) for number in numbers(piece)] == [*range(first, COUNT)]


@pytest.mark.parametrize(("name", "codec"), [
    ("x.avi", "libx264"), ("x.avi", "mpeg4"), ("x.avi", "mjpeg"), ("x.mpg", "libx264"),
])  # fmt: skip
def test_a_live_file_plays_evenly(tmp_path: Path, name: str, codec: str) -> None:
    write(tmp_path / name, codec)
    with fault_server((tmp_path / name).read_bytes()) as server:
        address = SourceAddress.parse(server.url("/ranges"))
        with closing(Connection(address, 60.0)) as connection:
            times = [at for at, _ in iter(connection.next, None)]
    assert len(times) == COUNT
    assert [after - before for before, after in pairwise(times)] == pytest.approx(
        [1 / FPS] * (COUNT - 1), abs=1e-3
    )
