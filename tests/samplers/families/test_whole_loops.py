"""Families that are no few-step ones, by their presets, against their authors' loops with the
models and the solver of diffusers, on the same noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import CachePolicy, FullHistory, RebuiltWindow
from longtake.model.checkpoint import build_dit, load_dit, open_checkpoint
from longtake.model.dit import WanDiT
from longtake.model.families.table import BY_KEY
from longtake.model.preset import Preset
from longtake.model.preset_cache import preset_cache
from longtake.samplers.conditioning.known_frames import from_latents
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.denoiser import LowNoise, SecondWeights, local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.options import preset_schedule, preset_solver
from longtake.samplers.schedule.rows import asynchronous
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.diffusers_models import store
from longtake.tests.support.tiny_model import randn

pytest.importorskip("diffusers")
from longtake.tests.support.samplers.whole_loops import (
    Blocks,
    Guided,
    full_sequence_loop,
    skyreels_pass,
)  # noqa: E402

ROWS, COLUMNS, SEED, WORDS = 2, 4, 7, 5
TEXT, NEGATIVE = randn(WORDS, 24, seed=3), randn(WORDS, 24, seed=4)
PLAIN = ("wan21-t2v", "wan22-ti2v-5b")
NOTHING = torch.empty(0, 16, ROWS, COLUMNS)
NO_PICTURE = torch.empty(6, 0, ROWS, COLUMNS)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def noise(frames: range, channels: int = 16, purpose: str = "start") -> Tensor:
    """As the rollout draws it."""
    shape = (channels, ROWS, COLUMNS)
    return torch.stack([addressed_noise(SEED, f, 0, purpose, shape) for f in frames])


def rollout(dit: WanDiT, config: Any, preset: Preset, length: int, **changes: Any) -> Tensor:
    """Ours; `model` may stand for `dit`."""
    model = changes.pop("model", None) or local_denoiser(dit, config)
    prompts = PromptTimeline((TimedPrompt(0, TEXT, "a"),), NEGATIVE)
    given = {
        "schedule": preset_schedule(preset), "solver": preset_solver(preset),
        "cache": preset_cache(preset), "guidance": cfg(preset.guidance_scale),
        "context_noise": ContextNoise(preset.context_noise), **changes,
    }  # fmt: skip
    settings = RolloutSettings(prompts, ROWS, COLUMNS, length=length, seed=SEED, **given)
    return torch.cat([c.latents for c in generate(settings, model)])


def skyreels(folder: Path, block: int) -> tuple[WanDiT, Any, Guided]:
    """A random 1.3B-like model: ours from the file, and theirs with its frame rate told."""
    theirs = store(
        "SkyReelsV2Transformer3DModel", folder, inject_sample_info=True, num_frame_per_block=block
    )

    def velocity(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        video = x.transpose(0, 1)[None]
        return theirs(
            video, t[None], text[None], enable_diffusion_forcing=True, fps=[1], return_dict=False
        )[0][0].transpose(0, 1)  # fmt: skip

    found = open_checkpoint(folder).recognition
    assert found.family.key == "skyreels-df-fps"
    scale = found.family.preset.guidance_scale
    return load_dit(folder), found.config, Guided(velocity, TEXT, NEGATIVE, scale)


@torch.inference_mode()
def test_skyreels_preset_is_a_pass_for_each_block_behind_noised_history(tmp_path: Path) -> None:
    """`overlap_history` of all but one block of the 25 latent frames, `addnoise_condition` 20: no
    key or value is kept from one pass to the next.
    """
    preset = replace(BY_KEY["skyreels-df-fps"].preset, steps=4)
    size, window = preset.chunk_frames, preset.window_frames
    dit, config, guided = skyreels(tmp_path, size)
    blocks = Blocks(preset.steps, preset.shift, ar_step=0)
    made = NOTHING
    for start in range(0, 30, size):
        seen = range(max(0, start - window), start)
        whole = range(seen.start, start + size)
        prefix, drawn = made[seen.start :], noise(seen, purpose="context") if seen else None
        x = skyreels_pass(guided, blocks, noise(whole), prefix, 20.0, drawn)
        made = torch.cat([made, x[len(seen) :]])
    ours = rollout(dit, config, preset, 30)
    assert made.std() > 0.5
    torch.testing.assert_close(ours, made, **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("base", "cache"),
    [(25, FullHistory()), (15, RebuiltWindow(5))],
    ids=["one pass holds all", "a window slides over it"],
)
def test_skyreels_asynchronous_matrix(tmp_path: Path, base: int, cache: CachePolicy) -> None:
    """`ar_step` 2 of 4 steps, blocks of 5: two are in the making at once, and the rest of the
    `base` latent frames of a pass are those that were finished last. (The last block, which
    nothing follows, sees one more of theirs in the published code.)
    """
    preset = BY_KEY["skyreels-df-fps"].preset
    dit, config, guided = skyreels(tmp_path, preset.chunk_frames)
    expected = skyreels_pass(
        guided, Blocks(4, preset.shift, 2, base=base), noise(range(25)), NOTHING
    )
    ladder = flow_ladder(4, preset.shift, preset.begins / 1000)
    ours = rollout(
        dit, config, preset, 25, schedule=asynchronous(ladder, 5, 2), cache=cache,
        context_noise=ContextNoise(0.0),
    )  # fmt: skip
    assert expected.std() > 0.5
    torch.testing.assert_close(ours[:20], expected[:20], **CLOSE)


@torch.inference_mode()
def test_skyreels_goes_on_behind_known_frames(tmp_path: Path) -> None:
    """`overlap_history` 17 pictures: five latent frames are given, noised by 20, and a whole pass
    of frames after them, each block behind the clean ones before it.
    """
    preset = BY_KEY["skyreels-df-fps"].preset
    dit, config, guided = skyreels(tmp_path, preset.chunk_frames)
    prefix = randn(5, 16, ROWS, COLUMNS, seed=9)
    expected = skyreels_pass(
        guided, Blocks(6, preset.shift, 6), noise(range(10)), prefix, 20.0,
        noise(range(5), purpose="context"),
    )  # fmt: skip
    ours = rollout(
        dit,
        config,
        replace(preset, steps=6),
        10,
        known_frames=from_latents(prefix),
        cache=FullHistory(),
    )
    torch.testing.assert_close(ours[5:], expected[5:], **CLOSE)


def wan(
    folder: Path, key: str, seed: int = 1, picture: Tensor = NO_PICTURE
) -> tuple[WanDiT, Any, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """A random model of that family: ours from the file, and theirs beside a picture's channels."""
    channels = 48 if key == "wan22-ti2v-5b" else 16
    inputs = {"in_channels": channels + picture.shape[1], "out_channels": channels}
    theirs = store("WanTransformer3DModel", folder, seed, **inputs)

    def velocity(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        x = torch.cat([x, picture[: len(x)]], 1) if picture.numel() else x
        per_token = t[None].repeat_interleave(ROWS * COLUMNS // 4, 1)
        return theirs(x.transpose(0, 1)[None], per_token, text[None], return_dict=False)[0][
            0
        ].transpose(0, 1)

    checkpoint = open_checkpoint(folder)
    config = checkpoint.recognition.config
    return build_dit(checkpoint.state(), config, folder), config, velocity


@torch.inference_mode()
@pytest.mark.parametrize("key", PLAIN)
def test_plain_wan_makes_all_frames_together(tmp_path: Path, key: str) -> None:
    preset = replace(BY_KEY[key].preset, steps=12)
    dit, config, velocity = wan(tmp_path, key)
    x = noise(range(6), config.out_channels)
    guided = Guided(velocity, TEXT, NEGATIVE, preset.guidance_scale)
    expected = full_sequence_loop(guided, x, preset.steps, preset.shift)
    assert expected.std() > 0.5
    torch.testing.assert_close(rollout(dit, config, preset, 6), expected, **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize("key", ["wan22-a14b", "wan22-i2v-a14b"])
def test_plain_wan_22_changes_models_at_its_boundary(tmp_path: Path, key: str) -> None:
    """Wan-Video/Wan2.2 `wan/text2video.py` and `wan/image2video.py`: the high noise model at
    timesteps of the boundary or above; one solver for both, timesteps rounded down; the picture
    beside the noise of both.
    """
    preset = replace(BY_KEY[key].preset, steps=12)
    picture = randn(6, 20, ROWS, COLUMNS, seed=6) if "i2v" in key else NO_PICTURE
    (high, config, first), (low, _, second) = (
        wan(tmp_path / str(seed), "wan21-t2v", seed, picture) for seed in (1, 2)
    )
    calls = []

    def velocity(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        calls.append(t[0] >= 1000 * preset.boundary)
        return (first if calls[-1] else second)(x, t, text)

    guided = Guided(velocity, TEXT, NEGATIVE, preset.guidance_scale)
    expected = full_sequence_loop(guided, noise(range(6)), preset.steps, preset.shift)
    assert {bool(is_high) for is_high in calls} == {True, False}
    passes = SecondWeights(local_denoiser(low, config), LowNoise(preset.boundary))
    model = replace(local_denoiser(high, config), second=passes)
    given = {"reference": Reference(picture)} if picture.numel() else {}
    ours = rollout(high, config, preset, 6, model=model, **given)
    torch.testing.assert_close(ours, expected, **CLOSE)
    assert (rollout(high, config, preset, 6, **given) - expected).abs().max() > 0.1


@torch.inference_mode()
def test_step_distill_makes_all_frames_together_by_euler(tmp_path: Path) -> None:
    """LightX2V `lightx2v/models/schedulers/wan/step_distill/scheduler.py`, shift 5, no guidance."""
    dit, config, velocity = wan(tmp_path, "wan21-t2v")
    levels = [5 * s / (1 + 4 * s) for s in (1.0, 0.75, 0.5, 0.25)]
    x = noise(range(6), config.out_channels)
    for now, after in pairwise([*levels, 0.0]):
        x = x + (after - now) * velocity(x, torch.full((6,), 1000 * now), TEXT)
    assert x.std() > 0.5
    ours = rollout(dit, config, BY_KEY["stepdistill-t2v"].preset, 6)
    torch.testing.assert_close(ours, x, **CLOSE)
