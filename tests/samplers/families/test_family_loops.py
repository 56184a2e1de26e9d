"""Few-step families by their presets, against their authors' loops as this project read them.

Families whose authors' own code was run are in test_authors_loops.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.model.families.table import BY_KEY, FAMILIES
from longtake.model.preset import Preset
from longtake.model.preset_cache import preset_cache
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise
from longtake.samplers.rules.memory import preset_rules
from longtake.samplers.schedule.options import preset_schedule, preset_solver
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.authors import RUNS
from longtake.tests.support.samplers.family_loops import (
    Layers,
    Published,
    by_frame,
    forward,
    published_loop,
)
from longtake.tests.support.tiny_model import TINY, random_dit, timeline

FOUR = (1000.0, 750.0, 500.0, 250.0)
PUBLISHED = {  # the repositories' configuration files, named in model/families/table.py
    "streamdiffusionv2": Published(
        (1000.0, 700.0, 500.0), block=1, shift=8.0, attends=6, sink=3, warp=False
    ),
    "streamdiffusionv2-14b": Published(
        (1000.0, 700.0, 500.0, 400.0, 200.0), block=1, shift=8.0, attends=6, sink=3, warp=False
    ),
    "causal-ar": Published(FOUR, block=1),
}
ROWS, COLUMNS, SEED = 2, 4, 7


@pytest.mark.parametrize("key", PUBLISHED)
def test_a_preset_is_the_authors_loop(key: str) -> None:
    """Levels, re-noising, commit at 0, window, sink, places counted from the window's start."""
    compare(PUBLISHED[key], BY_KEY[key].preset)


@pytest.mark.parametrize("at", [6, 33, 39])
def test_re_cached_at_a_switch_of_the_prompt_a_bank_stays(at: int) -> None:
    """MemFlow's bank is not filled yet, is chosen from, and has just got a candidate."""
    family = Published(FOUR, attends=12, sink=3, bank=3)
    compare(family, BY_KEY["memflow"].preset, switch=at, on_prompt_change="re-cache")


@pytest.mark.parametrize("at", [6, 33, 39])
def test_a_window_is_re_cached_at_a_switch_of_the_prompt(at: int) -> None:
    """LongLive infinity's; its authors pass the window at once."""
    family = Published(FOUR, attends=12, sink=3)
    compare(family, BY_KEY["longlive-infinity"].preset, switch=at, on_prompt_change="re-cache")


@torch.inference_mode()
def test_the_demo_is_euler_with_a_longer_first_chunk() -> None:
    """Its window slides after 21 latent frames. With guidance each prompt has a past of its own."""
    preset = replace(
        BY_KEY["demo"].preset, steps=3, window_frames=6, recall_share=0.0, guidance_scale=2.5
    )
    dit, prompts = random_dit(), timeline(0)
    w = dict(dit.state_dict())
    texts = (prompts.at(0).embedding, prompts.negative)
    pasts: list[list[tuple[int, Layers]]] = [[], []]
    made = []
    for start in range(0, 12, 3):
        steps = 8 if start == 0 else 3
        x = torch.stack([addressed_noise(SEED, start + i, 0, "start", (4, ROWS, COLUMNS))
                         for i in range(3)])  # fmt: skip
        levels = [1.5 * s / (1 + 0.5 * s) for s in (1 - i / steps for i in range(steps + 1))]
        for now, after in pairwise(levels):
            t = [1000 * now] * 3
            with_text, without = (
                forward(w, TINY.num_heads, x, t, text, [kv for _, kv in past[-6:]])[0]
                for text, past in zip(texts, pasts, strict=True)
            )
            x = x + (after - now) * (without + preset.guidance_scale * (with_text - without))
        for text, past in zip(texts, pasts, strict=True):
            seen = [kv for _, kv in past[-6:]]
            past += by_frame(forward(w, TINY.num_heads, x, [0.0] * 3, text, seen)[1], start, 3)
        made.append(x)
    settings = RolloutSettings(
        prompts, ROWS, COLUMNS, preset_schedule(preset), length=12, seed=SEED,
        solver=preset_solver(preset), cache=preset_cache(preset),
        guidance=cfg(preset.guidance_scale),
    )  # fmt: skip
    ours = torch.cat([c.latents for c in generate(settings, local_denoiser(dit, TINY))])
    torch.testing.assert_close(ours, torch.cat(made), rtol=1e-4, atol=1e-4)


def test_every_family_that_can_be_run_has_a_loop() -> None:
    """SkyReels-V2's and plain Wan's are in test_whole_loops; Wan 2.1 I2V's is plain Wan's, with
    its steps compared with the host's own in tests/in_core. FastVideo's pair is in
    test_authors_loops, and LingBot-World in test_lingbot_world. minWM is in test_minwm: its
    stages before the last differ in steps and guidance alone. Fun-Camera is in tests/in_core,
    Matrix-Game 2 in test_matrix_game, LiveTalk in test_livetalk, AvatarForcing in
    test_avatar_forcing. AnyFlow in test_anyflow.
    """
    others = {"demo", "skyreels-df-fps", "stepdistill-t2v", "stepdistill-i2v", "wan21-t2v",
              "wan22-ti2v-5b", "wan21-i2v", "wan22-a14b", "wan22-i2v-a14b", "demo-fast",
              "causal-wan22", "lingbot-world-fast", "lingbot-world-2",
              "minwm", "minwm-cd", "minwm-ode", "minwm-ar", "minwm-bidirectional",
              "wan21-fun-camera", "wan22-fun-camera",
              "matrix-game-2", "matrix-game-2-drive", "livetalk", "avatar-forcing",
              "anyflow-far", "anyflow"}  # fmt: skip
    assert BY_KEY["stepdistill-i2v"].preset == BY_KEY["stepdistill-t2v"].preset
    assert {*PUBLISHED, *RUNS, *others} == {row.key for row in FAMILIES}
    assert BY_KEY["skyreels-df"].preset == BY_KEY["skyreels-df-fps"].preset


@torch.inference_mode()
def compare(family: Published, preset: Preset, switch: int = 0, **changes: Any) -> None:
    """A rollout by the preset and the authors' loop on the same noise, with another prompt from
    latent frame `switch` on.
    """
    shape = (family.channels, ROWS, COLUMNS)
    config = replace(TINY, in_channels=family.channels, out_channels=family.channels)
    dit, prompts = random_dit(config), timeline(*sorted({0, switch}))
    blocks = family.attends // family.block + 2  # two of them see less than all
    length = max(blocks, 6 * family.bank, switch // family.block + 5) * family.block  # a bank more

    def noise(frame: int, step: int) -> Tensor:
        return addressed_noise(SEED, frame, step, "renoise" if step else "start", shape)

    expected = published_loop(
        dict(dit.state_dict()), config.num_heads, family, prompts.at(0).embedding, length, noise,
        (switch, prompts.at(switch).embedding) if switch else None,
    )  # fmt: skip
    settings = RolloutSettings(
        prompts, ROWS, COLUMNS, preset_schedule(preset), length=length, seed=SEED,
        solver=preset_solver(preset), cache=preset_cache(preset), guidance=cfg(1.0),
        **{"memory": preset_rules(preset, preset_cache(preset)), **changes},
    )  # fmt: skip
    made = torch.cat([c.latents for c in generate(settings, local_denoiser(dit, config))])
    assert expected.std() > 0.5
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
