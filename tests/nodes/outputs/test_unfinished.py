"""Which unfinished file a run adds to: not one whose pictures, or their times, would be others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.stream.video.writer import VideoWriter
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.unfinished_video import (
    SPLICE,
    cancelled,
    join,
    pictures,
    pieces,
    save,
)

COUNT = 80


@pytest.mark.parametrize("is_joined", [False, True])
def test_another_rate_of_the_frames_begins_another_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_joined: bool
) -> None:
    """At the file's own rate, the rate of the frames decides which are shown again."""
    from longtake.nodes import host

    def shown(fps: float) -> Any:
        numbers = torch.arange(COUNT)[:, None, None, None] / 255
        images = numbers.expand(-1, 32, 32, 3)
        frames = bench.run("LongtakeImagesToFrames", images=images, fps=fps)[0]
        return join(bench, SPLICE, frames, frames) if is_joined else frames

    def written(fps: float) -> Path:
        return save(bench, shown(fps), fps=30.0)

    def cancel(progress: Any, done: int) -> None:
        if done == 3:
            bench.state.interrupt()
        advance(progress, done)

    advance = host.Progress.advance
    with monkeypatch.context() as patch:
        patch.setattr(host.Progress, "advance", cancel)
        with pytest.raises(InterruptProcessingException):
            written(10.0)
    bench.state.start_prompt()
    assert pieces(bench)
    other, same, whole = written(15.0), written(10.0), written(10.0)
    assert [path.name for path in (other, same, whole)] == [
        "clip_00002_.mkv", "clip_00001_.mkv", "clip_00003_.mkv",
    ]  # fmt: skip
    assert all(map(np.array_equal, pictures(same), pictures(whole)))
    every_second = [frame[0, 0, 0] for frame in pictures(other)[:COUNT:2]]  # before a seam
    assert every_second == [*range(COUNT // 2)]


def test_a_slide_show_is_written_in_parts_and_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture lasts 48 frames: memory holds no more of these than frames of a chunk."""
    from longtake.nodes import host

    def written() -> Path:
        images = (torch.arange(COUNT // 2)[:, None, None, None] / 255).expand(-1, 32, 32, 3)
        [frames] = bench.run("LongtakeImagesToFrames", images=images, fps=0.5)
        return save(bench, frames, fps=24.0)

    def count(writer: VideoWriter, frames: torch.Tensor, key: str | None) -> None:
        lengths.append(len(frames))
        write(writer, frames, key)

    def cancel(progress: Any, done: int) -> None:
        if done == 2:
            bench.state.interrupt()
        advance(progress, done)

    write, advance, lengths = VideoWriter.write, host.Progress.advance, list[int]()
    monkeypatch.setattr(VideoWriter, "write", count)
    with monkeypatch.context() as patch, pytest.raises(InterruptProcessingException):
        patch.setattr(host.Progress, "advance", cancel)
        written()
    bench.state.start_prompt()
    assert pieces(bench) == 2
    again, whole = written(), written()
    assert [again.name, whole.name] == ["clip_00001_.mkv", "clip_00002_.mkv"]
    assert np.array_equal(pictures(again), pictures(whole))
    assert [frame[0, 0, 0] for frame in pictures(whole)[::48]] == [*range(COUNT // 2)]
    assert max(lengths) == 16


def test_other_tiles_begin_another_file(bench: Bench) -> None:
    rollout, vae = bench.rollout(length=45.0)

    def decoded(**inputs: Any) -> Any:
        return bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae, **inputs)[0]

    cancelled(bench, decoded(), 2)
    keys = [decoded(**inputs).content_key(0) for inputs in ({}, {"tile_size": 64})]
    assert keys[0] == decoded().content_key(0) != keys[1]
    assert save(bench, decoded(tile_size=64)).name == "clip_00002_.mkv"
