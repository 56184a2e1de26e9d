"""Collect (Stream): what a stop leaves, and how good its video is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at


def test_the_images_of_a_shot_that_was_stopped_end_with_its_last_frame(bench: Bench) -> None:
    frames = bench.frames()
    ask_at(bench, 1, frames.controls.stop)
    assert bench.collect(frames).shape == (21, 32, 32, 3)  # not the 33 that were planned


def test_the_video_has_the_quality_that_crf_asks_for(bench: Bench) -> None:
    noise = torch.rand(8, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    [frames] = bench.run("LongtakeImagesToFrames", images=noise)

    def size(**inputs: Any) -> int:
        _, video, _ = bench.run("LongtakeCollect", stream=frames, collect="video", **inputs)
        return Path(video.get_stream_source()).stat().st_size

    assert size(crf=51) < size() == size(crf=12) < size(crf=0)
