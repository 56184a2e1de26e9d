"""Upscale (Stream): any function of pictures, applied to a stream that is decoded once."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from longtake.errors import BadInput, OutOfMemory
from longtake.headless.events import ChunkDone
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.headless.hosts.stand_in.tiles import tiled_scale
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.upscaling import Doubler, upscaled


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_every_frame_is_enlarged_and_nothing_else_changes(bench: Bench) -> None:
    frames = bench.frames()
    larger = upscaled(bench, frames)
    assert (larger.width, larger.height) == (64, 64)
    for small, large in zip(frames.chunks, larger.chunks, strict=True):
        expected = functional.interpolate(small.frames, scale_factor=2)
        assert torch.equal(large.frames, expected)
        assert (large.index, large.first_frame) == (small.index, small.first_frame)


def test_outputs_of_the_small_and_the_large_frames_decode_each_chunk_once(bench: Bench) -> None:
    frames = bench.frames()
    larger = upscaled(bench, frames)
    outputs = [("LongtakePreview", {"frames": frames}), ("LongtakeSaveVideo", {"frames": larger})]
    asyncio.run(bench.side_by_side(*outputs))
    assert [event.chunk for event in bench.events if isinstance(event, ChunkDone)] == [0, 1, 2]
    assert bench.bar("LongtakeUpscale") == [1, 2, 3]
    [report] = bench.state.folders["output"].rglob("*report.json")
    facts = json.loads(report.read_text())
    assert (facts["width"], facts["height"], facts["frames"]) == (64, 64, 33)


def test_a_preview_of_enlarged_frames_shows_them_with_what_was_measured(bench: Bench) -> None:
    from longtake.nodes.runtime.session import session

    larger = upscaled(bench, bench.frames())
    [made] = bench.shown("LongtakePreview", frames=larger)["longtake"]
    take = session.takes.get(made["take"])
    assert take is not None
    shown = take.manifest()
    assert (shown["width"], shown["height"]) == (64, 64)
    assert larger.meter.frames_per_s is not None


def test_the_host_is_told_of_the_upscale_model(bench: Bench) -> None:
    frames = bench.frames()
    larger = upscaled(bench, frames)
    assert [model for model in larger.get_models() if model not in frames.get_models()] == [
        larger.upscaler.patcher
    ]


@pytest.mark.parametrize(("scale", "side"), [(0.0, 64), (1.5, 48), (1.0, 32), (0.78, 24)])
def test_scale_is_of_the_frames_and_sides_are_even(bench: Bench, scale: float, side: int) -> None:
    larger = upscaled(bench, bench.frames(), scale=scale)
    assert (larger.width, larger.height) == (side, side)
    assert next(iter(larger.chunks)).frames.shape[1:] == (3, side, side)


def test_upscaled_frames_can_be_upscaled_again(bench: Bench) -> None:
    twice = upscaled(bench, upscaled(bench, bench.frames()))
    images = bench.collect(twice)
    assert images.shape == (33, 128, 128, 3) and twice.report([]).width == 128


LACKS = {
    "accelerator": torch.OutOfMemoryError("no room"),
    "main memory": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
}


@pytest.mark.parametrize("where", LACKS)
def test_tiles_are_halved_until_they_fit_and_the_picture_is_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from longtake.nodes.stages.upscale import Upscaler

    monkeypatch.setattr(Doubler, "lack", LACKS[where])
    whole, cramped = Doubler(), Doubler(max_pixels=200)
    picture = pictures(1, 3, 240, 400)
    expected = Upscaler(whole, 0, 512, None).enlarge(picture)
    made = Upscaler(cramped, 0, 512, None).enlarge(picture)
    assert max(cramped.largest) > 200 >= cramped.largest[-1]
    torch.testing.assert_close(made, expected)
    with pytest.raises(OutOfMemory, match="Memory ran out while a frame was enlarged") as raised:
        Upscaler(Doubler(max_pixels=20), 0, 512, None).enlarge(picture)
    assert isinstance(raised.value, type(LACKS[where])) == (where == "accelerator")


def test_cancel_is_obeyed_between_two_pictures(bench: Bench) -> None:
    from longtake.nodes.stages.upscale import Upscaler

    model = Doubler()
    bench.state.interrupt()
    with pytest.raises(InterruptProcessingException):
        Upscaler(model, 0, 512, None).enlarge(pictures(3, 3, 8, 8))
    assert model.largest == []


def test_models_and_sizes_that_make_no_video_are_refused(bench: Bench) -> None:
    grey = Doubler()
    grey.input_channels = 1
    with pytest.raises(BadInput, match="takes 1 channels"):
        upscaled(bench, bench.frames(), grey)
    huge = Doubler()
    huge.scale = 1000
    with pytest.raises(BadInput, match="more than the 16384 pixels"):
        upscaled(bench, bench.frames(), huge)


@pytest.mark.parametrize("size", [(50, 70), (64, 64), (65, 200), (31, 130)])
def test_tiles_of_a_local_function_blend_to_the_whole_picture(size: tuple[int, int]) -> None:
    picture = pictures(2, 3, *size)
    made = tiled_scale(picture, nn.Upsample(scale_factor=2), 64, 64, overlap=16, upscale_amount=2)
    torch.testing.assert_close(made, functional.interpolate(picture, scale_factor=2))
