"""A video file that lacks its end, or was joined, is told of; no whole one is, of any container."""

from __future__ import annotations

import io
import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.stream.video.reading.missing_bytes import missing_bytes
from longtake.stream.video.reading.source import FrameRequest, VideoClip

H264, MPEG4 = ("libx264", "yuv420p"), ("mpeg4", "yuv420p")
VP8, GIF = ("libvpx", "yuv420p"), ("gif", "rgb8")
FASTSTART = {"movflags": "faststart"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
TOLD = [
    ("x.mp4", H264, FASTSTART),
    ("x.mov", H264, FASTSTART),
    ("f.mp4", H264, FRAGMENTS),
    ("x.mkv", H264, {}),
    ("x.webm", VP8, {}),
    ("x.avi", MPEG4, {}),
]
UNTOLD = [  # at the end or nowhere, or no place says how long they are
    ("y.mp4", H264, {}),
    ("y.mkv", H264, {"live": "1"}),
    ("y.gif", GIF, {}),
    ("y.ts", H264, {}),
]
Case = tuple[str, tuple[str, str], dict[str, str]]


def written(folder: Path, case: Case, *, uneven: bool = False, start: int = 0) -> Path:
    """A video with B-frames; pictures may have uneven times, or begin before 0 (an edit list)."""
    name, (codec, pixels), options = case
    path = folder / name
    dice, at = np.random.default_rng(1), start
    reordered = {} if codec in ("gif", "libvpx") else {"bf": "2"}
    with av.open(path, "w", options=options) as container:
        stream = container.add_stream(codec, rate=25, options=reordered)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.gop_size = 12
        for _ in range(50):
            codes = dice.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(codes, "rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            at += int(dice.integers(1, 4)) if uneven else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def warnings(path: Path | io.BytesIO, caplog: pytest.LogCaptureFixture) -> list[str]:
    source = str(path) if isinstance(path, Path) else path
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="longtake"):
        VideoClip.probe(source, FrameRequest(Fraction(25)))
    return [text for text in caplog.messages if "cut short" in text or "jump from" in text]


@pytest.mark.parametrize("case", TOLD, ids=lambda case: case[0])
def test_a_file_that_was_cut_short_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    content = written(tmp_path, case).read_bytes()
    cut = tmp_path / f"cut_{case[0]}"
    for percent in (30, 60, 95):
        cut.write_bytes(content[: len(content) * percent // 100])
        [told] = warnings(cut, caplog)
        assert f"{cut} is cut short: at least" in told and "s are left; copy or" in told
        if case[2] is not FRAGMENTS:  # whose lengths are of one fragment each
            assert f"at least {100 - percent} % of its bytes" in told
    [told] = warnings(io.BytesIO(cut.read_bytes()), caplog)
    assert "The video in memory is cut short" in told


@pytest.mark.parametrize(("start", "to_s"), [(0, ["0.00"]), (50, []), (2000, ["79.92"])])
def test_files_that_were_joined_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, start: int, to_s: list[str]
) -> None:
    """Players take the second one for the next; by its times it is none, or comes much later."""
    parts = [written(tmp_path, UNTOLD[-1], start=at).read_bytes() for at in (0, start, start)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts if to_s else parts[:2]))
    told = warnings(joined, caplog)
    assert [text.split(",")[0] for text in told] == [
        f"The times of the video {joined} jump from 2.00 to {seconds} s" for seconds in to_s
    ]


@pytest.mark.parametrize(("uneven", "start"), [(False, 0), (True, 0), (False, -5), (False, 50)])
@pytest.mark.parametrize("case", [*TOLD, *UNTOLD], ids=lambda case: case[0])
def test_a_whole_file_is_never_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: Case, uneven: bool, start: int
) -> None:
    assert warnings(written(tmp_path, case, uneven=uneven, start=start), caplog) == []


def riff(kind: bytes, content: int, length: int | None = None) -> bytes:
    stated = content + 4 if length is None else length
    return b"RIFF" + stated.to_bytes(4, "little") + kind + bytes(content)


def box(kind: bytes, content: int) -> bytes:
    return (8 + content).to_bytes(4, "big") + kind + bytes(content)


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (riff(b"AVI ", 100) + riff(b"AVIX", 200), 0),
        ((riff(b"AVI ", 100) + riff(b"AVIX", 200))[:-50], 50),
        (riff(b"AVI ", 101), 0),  # without the byte that makes it even
        (riff(b"AVI ", 100, 112), 0),  # the head is counted too
        (riff(b"AVI ", 100, 0), 0),
        (riff(b"AVI ", 100, 0xFFFFFFFF), 0),
        (riff(b"AVI ", 100) + b"JUNK" + bytes(90), 0),
        (box(b"ftyp", 8) + b"\0\0\0\1mdat" + (316).to_bytes(8, "big") + bytes(300), 0),
        (box(b"ftyp", 8) + b"\0\0\0\1mdat" + (316).to_bytes(8, "big") + bytes(200), 100),
        (box(b"ftyp", 8) + b"\0\0\0\0mdat" + bytes(200), 0),
        (box(b"ftyp", 8) + box(b"mdat", 90) + bytes(7), 0),
        (box(b"ftyp", 8) + box(b"mdat", 90) + b"\xff\xff\xff\xffabcd", 0),
        (b"\x1a\x45\xdf\xa3\x80\xec\x81\0\x18\x53\x80\x67\x88" + bytes(8), 0),
        (b"\x1a\x45\xdf\xa3\x80\xec\x81\0\x18\x53\x80\x67\xe4" + bytes(10), 90),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(9), 0),
        (b"\x1a\x45\xdf\xa3", 0),
        (b"", 0),
    ],
)
def test_what_lacks_is_what_the_file_states(content: bytes, missing: int) -> None:
    assert missing_bytes(io.BytesIO(content))[0] == missing
