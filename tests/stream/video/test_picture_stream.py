"""A video's pictures are encoded by the video's own thread."""

import os
from pathlib import Path

import pytest
import torch

from longtake.stream.video.codecs import FFV1, Encoding
from longtake.stream.video.spec import VideoSpec
from longtake.stream.video.writer import open_video

TASKS = Path("/proc/self/task")


@pytest.mark.skipif(not TASKS.exists(), reason="only Linux lists a process's threads")
@pytest.mark.parametrize(("codec", "name"), [(Encoding(), "x.mp4"), (Encoding(FFV1), "x.mkv")])
def test_colours_are_converted_by_no_other_thread(
    tmp_path: Path, codec: Encoding, name: str
) -> None:
    """FFmpeg's own threads would wait for cores that make the next chunk."""
    before = {*os.listdir(TASKS)}
    with open_video(tmp_path / name, VideoSpec(96, 64, 16, codec)) as video:
        video.write(torch.rand(3, 3, 64, 96))
        video.flush()
        assert len({*os.listdir(TASKS)} - before) == 1
