"""All bytes of a file decide its digest, and nothing but these."""

from __future__ import annotations

import io
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.errors import BadInput
from longtake.stream.video.reading import source as source_module
from longtake.stream.video.reading.source import FrameRequest, VideoClip, content_digest
from longtake.stream.video.sound.in_file import FileSound

REQUEST = FrameRequest(Fraction(16))


def write_uncompressed(path: Path, bright: range) -> None:
    """An AVI of 160 pictures: an edit of some of them changes nothing else in the file."""
    with av.open(path, "w", format="avi") as container:
        stream = container.add_stream("rawvideo", rate=16)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(160):
            picture = np.full((96, 96), 200 if number in bright else 40, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def digests(path: Path) -> set[str]:
    return {VideoClip.probe(str(path), REQUEST).digest, FileSound(str(path)).digest}


def test_an_edit_that_keeps_the_size_changes_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "x.avi"
    write_uncompressed(path, range(0))
    size, before = path.stat().st_size, digests(path)
    for bright in (range(20, 60), range(130, 131)):
        write_uncompressed(path, bright)
        changed_ns = path.stat().st_mtime_ns + 1  # whatever clock this disk has
        os.utime(path, ns=(changed_ns, changed_ns))
        assert path.stat().st_size == size
        after = digests(path)
        assert len(after) == 2 and not before & after
        before |= after


def test_a_file_has_the_same_digest_on_another_machine(tmp_path: Path) -> None:
    """Wherever the file lies there, and whenever it was copied."""
    path, other = tmp_path / "x.avi", tmp_path / "other" / "y.avi"
    write_uncompressed(path, range(3))
    other.parent.mkdir()
    shutil.copyfile(path, other)
    os.utime(other, ns=(10**18, 10**18))
    assert digests(path) == digests(other)
    assert content_digest(str(path)) == content_digest(io.BytesIO(path.read_bytes()))


def test_a_file_that_did_not_change_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"content")
    first = content_digest(str(tmp_path / "x"))
    monkeypatch.setattr(source_module.hashlib, "sha256", lambda: pytest.fail("read again"))
    assert content_digest(str(tmp_path / "x")) == first


def test_a_file_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="gone.mp4 cannot be read .*; choose a file that plays"):
        _ = FileSound(str(tmp_path / "gone.mp4")).digest
