"""Opening a video whose title is in another encoding, or that begins streams in its middle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.container import InputContainer

from longtake.errors import BadInput
from longtake.stream.video.opening import open_to_read, packets, text_options
from longtake.stream.video.reading.source import FrameRequest, VideoClip, probe_size
from longtake.tests.support.clips import write_clip


def video(title: bytes) -> io.BytesIO:
    """A file of one picture whose title has these bytes."""
    file, stand_in = io.BytesIO(), "T" * len(title)
    with av.open(file, "w", format="matroska") as container:
        container.metadata["title"] = stand_in
        stream = container.add_stream("ffv1", 8, width=16, height=16, pix_fmt="bgr0")
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
        container.mux([*stream.encode(picture), *stream.encode()])
    data = file.getvalue()
    assert data.count(stand_in.encode()) == 1
    return io.BytesIO(data.replace(stand_in.encode(), title))


def test_a_title_in_another_encoding_is_no_obstacle() -> None:
    with open_to_read(video("Größe".encode("latin-1"))) as container:
        assert container.metadata["title"].startswith("Gr")
        assert len([*container.decode(video=0)]) == 1


def test_only_older_versions_are_told() -> None:
    """PyAV 19 has no such argument: every video failed with it."""
    assert text_options("18.1.0") == {"metadata_errors": "replace"}
    assert text_options("19.0.2") == text_options("20.0.0rc1") == {}


class LateStream:
    """What PyAV does at the end of such a container; what its memory holds decides how often."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def demux(self, *streams: Any) -> Iterator[str]:
        """Two packets, and then the look at a stream that PyAV does not know."""
        yield from ("first", "last")
        raise self.error


def test_a_stream_that_begins_in_the_middle_ends_no_file_early() -> None:
    container = cast(InputContainer, LateStream(IndexError("list index out of range")))
    assert [*packets(container)] == ["first", "last"]


def test_other_errors_of_a_file_pass_on() -> None:
    container = cast(InputContainer, LateStream(OSError("broken disk")))
    with pytest.raises(OSError, match="broken disk"):
        [*packets(container)]


def test_bare_h264_has_no_times_and_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.h264"
    write_clip(path, 10)
    said = f"The video {path} is bare h264 without times; put it into a container"
    with pytest.raises(BadInput, match=said):
        VideoClip.probe(str(path), FrameRequest(Fraction(16)))
    with pytest.raises(BadInput, match=said):
        probe_size(str(path))
