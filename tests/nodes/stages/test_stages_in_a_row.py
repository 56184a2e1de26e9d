"""Stages behind a super-resolution after Cancel: no pass of finished frames runs again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import Counter, flashvsr, flashvsr_bench, sharpened
from longtake.tests.support.nodes.unfinished_video import pictures, save
from longtake.tests.support.nodes.upscaling import Tinter, upscaled

LENGTH, PASSES = 57.0, 6  # 21 frames, then 8 in each pass, and 4 in the last


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def counter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(bench, monkeypatch)


def upscale(bench: Bench, act: Callable[[int], None]) -> Any:
    """Frames after a super-resolution and an upscale model, which calls `act` for each frame."""

    class Watched(Tinter):
        """Tells how many frames it has seen before."""

        def __call__(self, pictures: Tensor) -> Tensor:
            act(len(self.largest))
            return super().__call__(pictures)

    return upscaled(bench, sharpened(bench, bench.frames(length=LENGTH), scale=1.0), Watched())


def test_an_upscale_behind_it_gets_the_frames_that_it_was_cancelled_at(
    bench: Bench, counter: Counter
) -> None:
    whole = pictures(save(bench, upscale(bench, lambda number: None), filename_prefix="whole/a"))
    counter.passes = 0

    def cancel(number: int) -> None:
        if number == 37 + 3:  # in the fourth chunk
            bench.state.interrupt()

    with pytest.raises(InterruptProcessingException):
        save(bench, upscale(bench, cancel))
    assert counter.passes == 4
    bench.state.start_prompt()
    seen = list[int]()
    video = save(bench, upscale(bench, seen.append))
    assert (counter.passes, len(seen)) == (PASSES, LENGTH - 37)
    assert np.array_equal(pictures(video), whole)


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("after", [7, 8])
def test_a_second_super_resolution_goes_on_in_the_same_file(
    bench: Bench, counter: Counter, after: int
) -> None:
    """Cancel comes in either of the two."""
    model = flashvsr(bench)

    def twice() -> Any:
        once = sharpened(bench, bench.frames(length=LENGTH), model, scale=1.0)
        return sharpened(bench, once, model, scale=1.0)

    whole = pictures(save(bench, twice(), filename_prefix="whole/a"))
    counter.passes, counter.cancel_after = 0, after
    with pytest.raises(InterruptProcessingException):
        save(bench, twice())
    bench.state.start_prompt()
    counter.passes = counter.cancel_after = 0
    video = save(bench, twice())
    assert counter.passes == 2 * PASSES - after and video.name == "clip_00001_.mkv"
    assert np.array_equal(pictures(video), whole)
