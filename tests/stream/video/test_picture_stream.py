"""A video's pictures are encoded by the video's own thread, and say which colours they have."""

import os
from pathlib import Path

import av
import pytest
import torch

from longtake.stream.video.codecs import (
    AV1,
    FFV1,
    H264,
    H265,
    PRORES_4444,
    PRORES_HQ,
    SUFFIX,
    VP9,
    Codec,
    Encoding,
)
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


@pytest.mark.skipif(not hasattr(av.VideoFrame, "color_primaries"), reason="needs PyAV 17")
@pytest.mark.parametrize("codec", [H264, H265, AV1, VP9, PRORES_HQ, PRORES_4444])
def test_a_decoder_reads_the_colours_of_bt709_from_the_pictures(
    tmp_path: Path, codec: Codec
) -> None:
    """ProRes has them in each frame's header, which counts more than the file's."""
    path = tmp_path / f"x{SUFFIX[codec.container]}"
    with open_video(
        path, VideoSpec(96, 64, 16, Encoding(codec, None, max(codec.pixel_formats)))
    ) as v:
        v.write(torch.rand(2, 3, 64, 96))
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    assert (frame.color_primaries, frame.color_trc, int(frame.colorspace)) == (1, 1, 1)
