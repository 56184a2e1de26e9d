"""Interpolate Frames (Stream): chunk by chunk equals the whole, whatever the model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from longtake.errors import BadInput
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.unfinished_video import pictures
from longtake.tests.support.nodes.unfinished_video import save as write_lossless
from longtake.tests.support.nodes.upscaling import Tinter, upscaled

WITHOUT_WEIGHTS = SimpleNamespace(load_device=torch.device("cpu"), patches={})


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


def smoothed(bench: Bench, frames: Any, multiplier: int, model: Any = WITHOUT_WEIGHTS) -> Any:
    return bench.run(
        "LongtakeInterpolate", frames=frames, interp_model=model, multiplier=multiplier
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


def test_a_reader_that_leaves_takes_no_work_of_the_others_along(bench: Bench, blend: Blend) -> None:
    smooth = smoothed(bench, bench.frames(), 2)

    async def read() -> None:
        leaving, staying = smooth.chunks.subscribe(), smooth.chunks.subscribe()
        first = (await leaving.__anext__()).frames
        leaving.close()
        assert (await staying.__anext__()).frames is first
        staying.close()

    asyncio.run(read())
    assert blend.pairs == 8, "the nine frames of the first chunk, once"


class Network:
    """Stands for the host's patcher of a model whose weights are `weight`."""

    load_device = torch.device("cpu")

    def __init__(self, weight: float = 1.0) -> None:
        self.model, self.patches = nn.Linear(1, 1), {}
        nn.init.constant_(self.model.weight, weight)
        nn.init.zeros_(self.model.bias)


def save(bench: Bench, model: Any, multiplier: int = 2) -> Path:
    return write_lossless(bench, smoothed(bench, bench.frames(), multiplier, model))


def test_after_cancel_run_makes_what_is_missing_in_the_same_file(
    bench: Bench, blend: Blend, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pictures(save(bench, Network()))
    blend.pairs, execute = 0, blend.execute

    def cancel(*arguments: Any) -> Any:
        if blend.pairs:  # one chunk is there
            bench.state.interrupt()
            host.check_interrupted()
        return execute(*arguments)

    from longtake.nodes import host

    with monkeypatch.context() as patch, pytest.raises(InterruptProcessingException):
        patch.setattr(blend, "execute", cancel)
        save(bench, Network(2.0))
    bench.state.start_prompt()
    done, blend.pairs = blend.pairs, 0
    video = save(bench, Network(2.0))
    assert video.name == "clip_00002_.mkv" and done > 0 and blend.pairs == 32 - done
    assert all(np.array_equal(a, b) for a, b in zip(pictures(video), whole, strict=True))


@pytest.mark.parametrize("knows", [True, False])
def test_after_cancel_a_stage_before_makes_no_frame_again_for_the_seam(
    bench: Bench, blend: Blend, monkeypatch: pytest.MonkeyPatch, *, knows: bool
) -> None:
    """Where the session knows the last frame: a super-resolution would run up to 95 passes."""
    from longtake.nodes.runtime.session import session

    def made(folder: str) -> tuple[Path, int]:
        stage = Tinter()
        smooth = smoothed(bench, upscaled(bench, bench.frames(), stage), 2, Network())
        return write_lossless(bench, smooth, filename_prefix=folder), len(stage.largest)

    whole, of_all = made("whole/clip")
    execute = blend.execute

    def cancel(*arguments: Any) -> Any:
        if blend.pairs == 32 + 8 + 12:  # two of three chunks are there
            bench.state.interrupt()
        return execute(*arguments)

    with monkeypatch.context() as patch, pytest.raises(InterruptProcessingException):
        patch.setattr(blend, "execute", cancel)
        made("clip")
    bench.state.start_prompt()
    if not knows:
        session.seams.clear()
    video, again = made("clip")
    assert (of_all, again) == (33, 12 if knows else 24)
    assert np.array_equal(pictures(video), pictures(whole)) and not session.seams._pictures


@pytest.mark.parametrize(("model", "multiplier"), [(Network(3.0), 2), (Network(), 4)])
def test_another_model_or_multiplier_has_other_pictures(
    bench: Bench, blend: Blend, model: Any, multiplier: int
) -> None:
    ours, other = (
        smoothed(bench, bench.frames(), count, each)
        for each, count in ((Network(), 2), (model, multiplier))
    )
    assert ours.content_key(0) not in (None, other.content_key(0), ours.content_key(1))
    assert smoothed(bench, bench.frames(), 2).content_key(0) is None, "no weights name the model"


@pytest.mark.parametrize("multiplier", [2, 3])
def test_every_frame_is_in_the_chunk_that_has_it(
    bench: Bench, blend: Blend, multiplier: int
) -> None:
    smooth = smoothed(bench, bench.frames(), multiplier)
    for chunk in smooth.chunks:
        numbers = range(chunk.first_frame, chunk.first_frame + len(chunk.frames))
        assert {smooth.chunk_of(number) for number in numbers} == {chunk.index}


def test_a_single_picture_stays_as_it_is(bench: Bench, blend: Blend) -> None:
    images = torch.rand(1, 8, 8, 3)
    [chunk] = smoothed(bench, images, 4).chunks
    assert torch.equal(chunk.frames.movedim(1, -1), images) and not blend.pairs


def test_a_host_without_interpolation_is_named(bench: Bench) -> None:
    with pytest.raises(BadInput, match="no frame interpolation"):
        smoothed(bench, torch.rand(2, 8, 8, 3), 2)
