"""Every few-step family by its preset, against its authors' loop on the same noise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longtake.model.families.table import BY_KEY
from longtake.model.preset import Preset
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.noise import addressed_noise
from longtake.samplers.preset_schedule import preset_cache, preset_schedule
from longtake.samplers.rollout import generate
from longtake.samplers.schedule_options import solver_for
from longtake.samplers.settings import RolloutSettings
from longtake.tests.family_loops import Published, published_loop
from longtake.tests.tiny_model import TINY, random_dit, timeline

FOUR = (1000.0, 750.0, 500.0, 250.0)
PUBLISHED = {  # the repositories' configuration files, named in model/families/table.py
    "self-forcing": Published(FOUR),
    "causvid": Published((1000.0, 757.0, 522.0), shift=8.0, warp=False),
    "causal-forcing": Published(FOUR),
    "causal-forcing-framewise": Published(FOUR, block=1),
    "causal-forcing-1step": Published((1000.0,), block=1, first=FOUR),
    "causal-forcing-2step": Published((1000.0, 500.0), block=1, first=FOUR),
    "longlive-infinity": Published(FOUR, attends=12, sink=3),
    "longlive": Published(FOUR, attends=12, sink=3),
    "memflow": Published(FOUR, attends=12, sink=3),
    "longlive2": Published(FOUR, block=8, attends=32, sink=8, channels=48),
    "streamdiffusionv2": Published(
        (1000.0, 700.0, 500.0), block=1, shift=8.0, attends=6, sink=3, warp=False
    ),
    "causal-ar": Published(FOUR, block=1),
    "krea-realtime": Published((1000.0, 937.0, 833.0, 625.0), attends=6, rebuilt=True, warp=False),
    "reward-forcing": Published(FOUR, attends=9, sink=3, decay=0.999),
}
ROWS, COLUMNS, SEED = 2, 4, 7


@pytest.mark.parametrize("key", PUBLISHED)
def test_a_preset_is_the_authors_loop(key: str) -> None:
    """Levels, re-noising, commit at 0, window, sink, places counted from the window's start."""
    compare(PUBLISHED[key], BY_KEY[key].preset)


def test_a_sink_that_averages_much_is_the_authors_too() -> None:
    """Reward Forcing's .999 hardly shows within a test; half does."""
    family = replace(PUBLISHED["reward-forcing"], decay=0.5)
    compare(family, replace(BY_KEY["reward-forcing"].preset, sink_decay=0.5))


@torch.inference_mode()
def compare(family: Published, preset: Preset) -> None:
    """A rollout by the preset and the authors' loop on the same noise."""
    shape = (family.channels, ROWS, COLUMNS)
    config = replace(TINY, in_channels=family.channels, out_channels=family.channels)
    dit, prompts = random_dit(config), timeline(0)
    length = (family.attends // family.block + 2) * family.block  # two blocks see less than all

    def noise(frame: int, step: int) -> Tensor:
        return addressed_noise(SEED, frame, step, "renoise" if step else "start", shape)

    expected = published_loop(
        dict(dit.state_dict()), config.num_heads, family, prompts.at(0).embedding, length, noise
    )  # fmt: skip
    settings = RolloutSettings(
        prompts, ROWS, COLUMNS, preset_schedule(preset), length=length, seed=SEED,
        solver=solver_for(preset.solver), cache=preset_cache(preset), guidance=cfg(1.0),
    )  # fmt: skip
    made = torch.cat([c.latents for c in generate(settings, local_denoiser(dit, config))])
    assert expected.std() > 0.5
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
