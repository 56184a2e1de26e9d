"""Opening a video whose title is in another encoding, with whatever PyAV is installed."""

from __future__ import annotations

import io

import av
import numpy as np

from longtake.stream.video.opening import open_to_read, text_options


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
