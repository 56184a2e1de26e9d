"""NaN of a model behind a shot ends the run in a sentence, where it was a black frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput, NotFinite
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import flashvsr_bench, sharpened
from longtake.tests.support.nodes.unfinished_video import pictures
from longtake.tests.support.nodes.upscaling import Doubler, upscaled

CLOUDED = 25  # the number of the frame of which NaN is made, in the third chunk of 12


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


def upscaler(bench: Bench, patch: pytest.MonkeyPatch) -> tuple[Any, str]:
    class Clouding(Doubler):
        """Makes one infinite pixel of one frame."""

        def __call__(self, pictures: Tensor) -> Tensor:
            larger = super().__call__(pictures)
            larger[..., 0, 0] += torch.inf if len(self.largest) == CLOUDED + 1 else 0
            return larger

    return upscaled(
        bench, bench.frames(), Clouding()
    ), "upscale model made NaN or infinity at frame 25"


def interpolator(bench: Bench, patch: pytest.MonkeyPatch) -> tuple[Any, str]:
    from longtake.nodes import host

    def between(node: Any, model: Any, pictures: Tensor, multiplier: int) -> Tensor:
        smooth = pictures.repeat_interleave(multiplier, 0)[: 1 - multiplier]
        if len(pictures) == 13:  # the last of the first chunk of 9, and the second chunk
            smooth[1] *= torch.nan
        return smooth

    patch.setattr(host, "interpolator", lambda: None)
    patch.setattr(host, "interpolate", between)
    model = SimpleNamespace(load_device=torch.device("cpu"), patches={})
    inputs = {"frames": bench.frames(), "interp_model": model, "multiplier": 2}
    made = bench.run("LongtakeInterpolate", **inputs)
    return made[0], "interpolation model made NaN or infinity at frame 17"


def super_resolution(bench: Bench, patch: pytest.MonkeyPatch) -> tuple[Any, str]:
    from longtake.model.flashvsr.upscaler import Upscaler

    step = Upscaler.step

    def cloud(self: Upscaler) -> Tensor:
        first = 21 * self.state.passes
        frames = step(self)
        return frames * torch.nan if first == 21 else frames

    patch.setattr(Upscaler, "step", cloud)
    return sharpened(bench, bench.frames()), "FlashVSR made NaN or infinity at frame 21"


@pytest.mark.parametrize("stage", [upscaler, interpolator, super_resolution])
def test_frames_of_nan_end_the_run_and_name_the_stage(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    stage: Callable[[Bench, pytest.MonkeyPatch], tuple[Any, str]],
) -> None:
    frames, sentence = stage(bench, monkeypatch)
    with pytest.raises(NotFinite, match=f"{sentence}.*; earlier chunks are kept: "):
        bench.run("LongtakeSaveVideo", frames=frames, format="mkv (lossless)")
    [video] = bench.state.folders["output"].rglob("*.mkv")
    assert len(pictures(video)) == (17 if stage is interpolator else 21)


def test_an_upscale_model_that_makes_other_channels_is_refused(bench: Bench) -> None:
    with_alpha = Doubler()
    with_alpha.output_channels = 4  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="makes 4 channels; connect a model for RGB pictures"):
        upscaled(bench, bench.frames(), with_alpha)
