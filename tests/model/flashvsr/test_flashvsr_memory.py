"""The plan of FlashVSR's memory against torch's allocator."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from longtake.benchmarks._shared.allocator import allocator_peak
from longtake.model.config import DiTConfig
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.memory import Steps, pass_memory, rehearse_steps
from longtake.model.flashvsr.passes import PassRule, run_pass
from longtake.model.flashvsr.projector import ProjectorConfig
from longtake.model.flashvsr.sizes import Sizes
from longtake.model.flashvsr.tiles import MIN_SIDE, TILE_SIDES, Tiling
from longtake.model.flashvsr.upscaler import Upscaler, UpscaleSettings
from longtake.tests.support.model.flashvsr import (
    OFFICIAL,
    SMALL,
    SMALL_DIT,
    noise_of,
    small_context,
    small_networks,
)

WITHIN = 0.05  # of the plan


@pytest.mark.some_cases(1)
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


MIDDLE = Sizes(
    DiTConfig(384, 1536, 3, 7, 64), ProjectorConfig(256, 384, 384, 1, causal=True),
    (128, 64, 32, 32), torch.bfloat16, 16,
)  # fmt: skip


def all_layers(sizes: Sizes, tiling: Tiling, rule: PassRule, *, on_cpu: bool) -> int:
    """The most bytes of two steps whose passes run all layers of every tile."""
    steps = Steps(sizes.networks(), rule, run_pass)
    return rehearse_steps(sizes, tiling, steps, on_cpu=on_cpu)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("layers", [1, 3, 4, 7])
@pytest.mark.parametrize(("side", "rule"), [(0, PassRule()), (256, PassRule(0.5, 3))])
def test_few_layers_of_one_tile_tell_the_memory_of_all(
    layers: int, side: int, rule: PassRule, device: str
) -> None:
    sizes, tiling = MIDDLE.with_layers(layers), Tiling(Canvas(500, 256), side)
    memory = pass_memory(sizes, tiling, device, rule)
    most = memory.working_bytes
    if len(memory.tile_bytes) == 1 or device == "cpu":
        most += memory.state_bytes
    assert most == all_layers(sizes, tiling, rule, on_cpu=device == "cpu")


WITHOUT_COLLECTION = """
import gc
gc.disable()
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.passes import PassRule
from longtake.model.flashvsr.tiles import Tiling
from longtake.model.flashvsr.trace import trace_passes
from longtake.tests.support.model.flashvsr import OFFICIAL
tile = Tiling(Canvas(1408, 768)).tiles[0]
trace = trace_passes.__wrapped__
for _ in range(2):
    passes = trace(OFFICIAL, tile.height, tile.width, PassRule(), on_cpu=False)
    print([one.most_bytes for one in passes])
"""


@pytest.mark.slow
def test_the_first_plan_of_a_process_is_that_of_every_later_one() -> None:
    """Whenever garbage is collected: torch keeps the frames of its first kernel's call."""
    command = [sys.executable, "-c", WITHOUT_COLLECTION]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, later = printed.splitlines()
    assert first == later and "-" not in first


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("side", [0, *TILE_SIDES])
def test_the_official_sizes_take_what_all_layers_of_all_tiles_take(side: int, device: str) -> None:
    """With smaller tiles on a smaller picture, which has two rows of three of them."""
    canvas = {384: Canvas(768, 512), MIN_SIDE: Canvas(512, 384)}.get(side, Canvas(1408, 768))
    tiling, on_cpu = Tiling(canvas, side), device == "cpu"
    memory = pass_memory(OFFICIAL, tiling, device)
    most = memory.working_bytes
    if len(memory.tile_bytes) == 1 or on_cpu:
        most += memory.state_bytes
    assert most == all_layers(OFFICIAL, tiling, PassRule(), on_cpu=on_cpu)
