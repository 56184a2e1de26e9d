"""A VIDEO that the host crops: newer cores keep the file and say how to read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from longtake.errors import StorageError
from longtake.headless.hosts.stand_in.modules import VideoFromFile
from longtake.tests.support.clips import write_clip
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.video_nodes import read

FIRST, COUNT = 16, 16  # the pictures within the trim
LEFT, TOP, WIDTH, HEIGHT = 32, 16, 48, 32
NEAR = 0.03  # of two ways from YUV to RGB


class CroppedVideo:
    """As the host's: cropped and trimmed, of a whole file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def as_cropped(self, *_: int) -> Any:
        raise NotImplementedError

    def get_stream_source(self) -> str:
        return str(self.file)

    def get_dimensions(self) -> tuple[int, int]:
        return WIDTH, HEIGHT

    def get_active_trim_window(self) -> tuple[float, float]:
        return FIRST / 16, COUNT / 16

    def save_to(self, path: str, crf: float) -> None:
        """Write the part that it shows."""
        with av.open(self.file) as source, av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=16, options={"crf": str(crf)})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
            for picture in [*source.decode(video=0)][FIRST : FIRST + COUNT]:
                pixels = picture.to_ndarray(format="rgb24")
                part = pixels[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(part), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


class EditedVideo(CroppedVideo):
    """As the host's that says so: it may show other pictures of the same size."""

    def has_pending_frame_edits(self) -> bool:
        return True

    def get_dimensions(self) -> tuple[int, int]:
        raise AssertionError("decodes a picture")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_clip(tmp_path / "x.mp4", 48)
    return tmp_path / "x.mp4"


@pytest.mark.parametrize("kind", [CroppedVideo, EditedVideo])
def test_a_cropped_video_gives_the_pictures_that_it_shows(
    bench: Bench, clip: Path, kind: type[CroppedVideo]
) -> None:
    """Its file alone was read: the whole picture in place of the part."""
    frames, _ = read(bench, kind(clip))
    assert (frames.width, frames.height, frames.frame_total) == (WIDTH, HEIGHT, COUNT)
    whole, _ = read(bench, VideoFromFile(str(clip)), start=FIRST / 16, length=COUNT / 16)
    shown = bench.collect(whole)[:, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
    assert (bench.collect(frames) - shown).abs().max() < NEAR


def test_only_a_video_with_edits_is_copied(bench: Bench, clip: Path) -> None:
    class Whole(CroppedVideo):
        def get_dimensions(self) -> tuple[int, int]:
            return 96, 64

        def save_to(self, *_: Any, **__: Any) -> None:
            raise AssertionError("needless")

    frames, _ = read(bench, Whole(clip))
    assert (frames.width, frames.height, frames.frame_total) == (96, 64, COUNT)


def test_a_full_disk_is_named(bench: Bench, clip: Path) -> None:
    class Full(CroppedVideo):
        def save_to(self, *_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"cropped video cannot be written to .*; free some"):
        read(bench, Full(clip))
