"""A shot of the real loop on tensors without content: what a plan must have room for."""

from __future__ import annotations

import pytest
import torch

from longtake.model.arithmetic.layers import Layers
from longtake.model.arithmetic.packed import PackedWeights
from longtake.model.config import DiTConfig
from longtake.model.memory import META, peak_bytes, shape_only
from longtake.model.vace.module import shape_only_module
from longtake.samplers.branches import Branches
from longtake.samplers.denoiser import Denoiser, LocalHost
from longtake.samplers.loop import generate
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.as_planned import resuming_at_every_chunk


def whole_shot_bytes(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> int:
    """The most bytes that caches, steps, commits and replays of all chunks take at once."""
    model = Denoiser(
        LocalHost(shape_only(config, dtype)), config, META, dtype,
        control=shape_only_module(config, dtype) if config.control_blocks else None,
        layers=Layers(packed=PackedWeights()),
    )  # fmt: skip

    def run() -> None:
        chunks = [*generate(settings, model)]
        for _ in generate(settings, model, chunks[:-1]):
            pass

    with pytest.MonkeyPatch.context() as patch, resuming_at_every_chunk():
        patch.setattr(Branches, "check_finite", lambda *_: None)  # there are no numbers
        patch.setattr(torch.Tensor, "cpu", _in_main_memory)
        return peak_bytes(run)


def _in_main_memory(x: torch.Tensor) -> torch.Tensor:
    """A tensor of that shape which takes next to nothing of the device."""
    return x.new_empty(()).expand(x.shape)
