"""Upscale (Stream) after Cancel: Run goes on with what is missing, in the same file and take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from torch import Tensor, nn

from longtake.headless.events import FileSaved
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.upscaling import Doubler, Tinter, upscaled

COUNT, SECOND = 33, 21  # frames in all, and those of the first two chunks
CANCEL_AT = 25


def work(bench: Bench, frames: Any, model: Any, **inputs: Any) -> Path:
    """Save the large frames and show both; the video."""
    larger = upscaled(bench, frames, model, **inputs)
    save = {"frames": larger, "format": "mkv (lossless)"}
    show = {"frames": frames, "refined": larger}
    asyncio.run(bench.side_by_side(("LongtakeSaveVideo", save), ("LongtakePreview", show)))
    return [e.path for e in bench.events if isinstance(e, FileSaved) and e.role == "video"][-1]


def each_picture(model: Doubler, act: Callable[[int], None]) -> None:
    """Call `act` with the number of each picture that is enlarged."""
    forward: Callable[[Tensor], Tensor] = model.model.forward

    def count(pictures: Tensor) -> Tensor:
        act(len(model.largest) - 1)
        return forward(pictures)

    model.model.forward = count  # type: ignore[method-assign]


def cancelled(bench: Bench, model: Any = None, frames: Any = None) -> None:
    """A run that Cancel ends while it enlarges the third chunk."""
    model = model or Tinter()
    each_picture(model, lambda number: bench.state.interrupt() if number == CANCEL_AT else None)
    with pytest.raises(InterruptProcessingException):
        work(bench, frames or bench.frames(), model)
    assert len(model.largest) == CANCEL_AT + 1
    for take in takes():
        take.join()
    bench.state.start_prompt()


def takes() -> list[Any]:
    """Every take there is, oldest first."""
    from longtake.nodes.runtime.session import session

    return list(session.takes._takes.values())


def pictures(path: Path) -> list[Any]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_only_what_is_missing_is_enlarged_and_it_is_the_same_file(bench: Bench) -> None:
    cancelled(bench)
    again = Tinter()
    video = work(bench, bench.frames(), again)
    assert video.name == "clip_00001_.mkv" and len(again.largest) == COUNT - SECOND
    for take in takes():
        take.join()
    assert [take.summary()["frames"] for take in takes()] == [COUNT, COUNT]
    made, whole = pictures(video), pictures(work(bench, bench.frames(), Tinter()))
    assert all(np.array_equal(a, b) for a, b in zip(made, whole, strict=True))
    assert len(made) == COUNT


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(Tinter(1.5), {}), (Tinter(), {"scale": 1.5}), (Tinter(), {"tile": 256})],
)
def test_another_model_or_setting_begins_another_file(
    bench: Bench, model: Any, inputs: dict[str, Any]
) -> None:
    cancelled(bench)
    assert work(bench, bench.frames(), model, **inputs).name == "clip_00002_.mkv"
    assert len(model.largest) == COUNT


def test_a_model_without_weights_begins_another_file(bench: Bench) -> None:
    """Nothing would tell it from another one."""
    cancelled(bench, Doubler())
    assert work(bench, bench.frames(), Doubler()).name == "clip_00002_.mkv"


def test_networks_of_equal_weights_are_told_apart(bench: Bench) -> None:
    class Other(nn.Sequential):
        """The same weights in another network."""

    one, other = Tinter(), Tinter()
    other.model = Other(*other.model.children())
    keys = [upscaled(bench, bench.frames(), model).content_key(0) for model in (one, other)]
    assert None not in keys and keys[0] != keys[1]


def test_one_tensor_of_many_tells_models_apart(bench: Bench) -> None:
    def deep(last: float) -> Tinter:
        model = Tinter()
        tints = [Tinter(1.0).model[1] for _ in range(99)]  # type: ignore[index]
        model.model = nn.Sequential(model.model, *tints)
        tints[97].weight.data *= last
        return model

    keys = [upscaled(bench, bench.frames(), deep(last)).content_key(0) for last in (1.0, 1.5)]
    assert keys[0] != keys[1]


def test_tiles_that_a_run_halves_stay_in_its_file(bench: Bench) -> None:
    frames = bench.frames()
    larger = upscaled(bench, frames, Tinter())
    before = larger.content_key(0)
    larger.upscaler._tile //= 2
    assert larger.content_key(0) == before is not None


def test_a_stage_behind_it_goes_on_too(bench: Bench) -> None:
    twice = upscaled(bench, upscaled(bench, bench.frames(), Tinter()), Tinter())
    assert twice.content_key(0) is not None and twice.content_key(3) is None
    assert [twice.chunk_of(frame) for frame in (0, 8, 9, COUNT - 1)] == [0, 0, 1, 2]
