"""The plan of FlashVSR's memory against torch's allocator."""

from __future__ import annotations

import pytest
import torch

from longtake.benchmarks._shared.allocator import allocator_peak
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.memory import Sizes, pass_memory
from longtake.model.flashvsr.tiles import Tiling
from longtake.model.flashvsr.upscaler import Upscaler, UpscaleSettings
from longtake.tests.support.model.flashvsr import (
    SMALL,
    SMALL_DIT,
    noise_of,
    small_context,
    small_networks,
)

WITHIN = 0.05  # of the plan


@pytest.mark.parametrize(("causal", "width", "height"), [(True, 250, 120), (False, 128, 128)])
def test_the_allocators_peak_of_two_passes_is_the_planned_one(
    causal: bool, width: int, height: int
) -> None:
    networks, canvas = small_networks(causal=causal), Canvas(width, height)
    tokens = small_context().shape[1]
    sizes = Sizes(SMALL_DIT, networks.projector.config, SMALL.widths, torch.float32, tokens)
    rows, columns = canvas.full_height // 8, canvas.full_width // 8
    settings = UpscaleSettings(canvas, lambda latents: noise_of(latents, rows, columns))

    def run() -> None:
        upscaler = Upscaler(networks, settings)
        for count in (25, 8):
            upscaler.put(torch.full((count, 3, height // 4, width // 4), 0.5))
            upscaler.step()

    run()  # once before, for tables that stay
    planned = pass_memory(sizes, Tiling(canvas))
    total = planned.state_bytes + planned.working_bytes
    assert abs(allocator_peak(run) - total) < WITHIN * total
