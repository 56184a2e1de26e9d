"""Interpolate Frames (Stream): chunk by chunk equals the whole, whatever the model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench


class Blend:
    """Stands for the host's node: the frames between two are their mean, weighted by time."""

    def __init__(self) -> None:
        self.pairs = 0

    def execute(self, model: Any, images: Tensor, multiplier: int) -> Any:
        """The images (n, H, W, 3) with new ones in between, in an object with `args`."""
        self.pairs += len(images) - 1
        times = torch.arange(multiplier).view(1, -1, 1, 1, 1) / multiplier
        between = torch.lerp(images[:-1, None], images[1:, None], times)
        whole = torch.cat([between.flatten(0, 1), images[-1:]])
        return type("Output", (), {"args": (whole,)})()


@pytest.fixture
def blend(monkeypatch: pytest.MonkeyPatch) -> Blend:
    from longtake.nodes import host

    node = Blend()
    monkeypatch.setattr(host, "interpolator", lambda: node)
    return node


def smoothed(bench: Bench, frames: Any, multiplier: int) -> Any:
    return bench.run(
        "LongtakeInterpolate", frames=frames, interp_model="model", multiplier=multiplier
    )[0]


@pytest.mark.parametrize("multiplier", [2, 3])
def test_chunk_by_chunk_equals_the_whole(bench: Bench, blend: Blend, multiplier: int) -> None:
    frames = bench.frames()
    smooth = smoothed(bench, frames, multiplier)
    whole = torch.cat([chunk.frames for chunk in frames.chunks])
    [expected] = Blend().execute(None, whole.movedim(1, -1), multiplier).args
    chunks = list(smooth.chunks)
    assert torch.equal(torch.cat([chunk.frames for chunk in chunks]).movedim(1, -1), expected)
    ends = [chunk.first_frame + len(chunk.frames) for chunk in chunks]
    assert [chunk.first_frame for chunk in chunks] == [0, *ends[:-1]]
    assert smooth.frame_total == ends[-1] == (len(whole) - 1) * multiplier + 1
    assert smooth.plan.frames == ends[-1] and smooth.fps == multiplier * frames.fps


def test_two_outputs_share_the_work_and_play_at_the_new_rate(bench: Bench, blend: Blend) -> None:
    smooth = smoothed(bench, bench.frames(), 2)
    outputs = [("LongtakePreview", {"frames": smooth}), ("LongtakeSaveVideo", {"frames": smooth})]
    asyncio.run(bench.side_by_side(*outputs))
    assert blend.pairs == 32, "33 frames"
    [video] = bench.state.folders["output"].rglob("*.mp4")
    import av

    with av.open(video) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == 32 and stream.frames == 65


def test_a_reader_that_comes_later_reads_the_same(bench: Bench, blend: Blend) -> None:
    smooth = smoothed(bench, bench.frames(), 2)
    first = [chunk.frames for chunk in smooth.chunks]
    readers = iter(smooth.chunks), iter(smooth.chunks)
    next(readers[0])
    for made, ahead, behind in zip(first[1:], readers[0], readers[1], strict=False):
        assert torch.equal(made, ahead.frames)
        assert torch.equal(first[behind.index], behind.frames)


def test_a_single_picture_stays_as_it_is(bench: Bench, blend: Blend) -> None:
    images = torch.rand(1, 8, 8, 3)
    [chunk] = smoothed(bench, images, 4).chunks
    assert torch.equal(chunk.frames.movedim(1, -1), images) and not blend.pairs


def test_a_host_without_interpolation_is_named(bench: Bench) -> None:
    with pytest.raises(BadInput, match="no frame interpolation"):
        smoothed(bench, torch.rand(2, 8, 8, 3), 2)
