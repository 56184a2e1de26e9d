"""AvatarForcing by its preset, against what its authors' own code made of the same inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.attention.cache.placed_windows import AnchorWindow
from longtake.attention.cache.policy import WindowSink
from longtake.model.families.table import BY_KEY
from longtake.model.preset_cache import preset_cache
from longtake.model.voice import AUDIO_FEATURES
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.authors import FOLDER, SEED, preset_rollout, shot_settings
from longtake.tests.support.tiny_model import TINY, random_dit

SPEAKS = replace(TINY, num_layers=6, in_channels=9, voice=True)
"""Noise, picture and mask; two of six blocks take the voice."""
PRESET = BY_KEY["avatar-forcing"].preset
RUN = load_file(FOLDER / "avatar_forcing.safetensors")
CLOSE = {"rtol": 0, "atol": 5e-5}


def inputs(*, silent: bool = False) -> dict[str, Any]:
    """The picture, seen beside every frame and known as the first, and the voice of the run."""
    picture = RUN["picture"]
    marks = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, *picture.shape[1:])
    channels = torch.cat([picture.expand(2, -1, -1, -1), marks], 1)
    pictures = 4 * len(RUN["latents"]) - 3
    voice = addressed_noise(SEED, 0, 0, "voice", (pictures, AUDIO_FEATURES))
    return {
        "reference": Reference(channels, voice=torch.zeros_like(voice) if silent else voice),
        "known_frames": KnownFrames((KnownFrame(0, picture),)),
    }


def rollout(**changes: Any) -> Tensor:
    """Ours on the authors' inputs."""
    model = local_denoiser(random_dit(SPEAKS, 3), SPEAKS)
    return preset_rollout(RUN["text"], RUN["latents"], model, PRESET, **{**inputs(), **changes})


@torch.inference_mode()
def test_a_shot_is_the_authors_own() -> None:
    """Picture, voice, levels, sink and window, from the first passes, of one chunk, to the last."""
    assert preset_cache(PRESET) == AnchorWindow(3, 1)
    assert len(RUN["latents"]) == 1 + 7 * PRESET.chunk_frames  # more than are in work together
    torch.testing.assert_close(rollout(), RUN["latents"], **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize(
    "changes",
    [inputs(silent=True), {"known_frames": KnownFrames()}, {"cache": WindowSink(3, 1)}],
    ids=["silent", "no picture", "a sink that is always near"],
)
def test_without_a_part_the_shot_is_another(changes: dict[str, Any]) -> None:
    assert (rollout(**changes) - RUN["latents"]).abs().max() > 20 * CLOSE["atol"]


@torch.inference_mode()
@pytest.mark.parametrize("kept", [1, 3, 6])
def test_a_shot_goes_on_with_the_same_bits(kept: int) -> None:
    """Behind the picture, while chunks are in work together, and past the first chunks."""
    settings: RolloutSettings = shot_settings(RUN["text"], RUN["latents"], PRESET, **inputs())
    model = local_denoiser(random_dit(SPEAKS, 3), SPEAKS)
    chunks = [*generate(settings, model)]
    assert [len(chunk.latents) for chunk in chunks] == [1, *[4] * 7]
    again = [*generate(settings, model, chunks[:kept])]
    for before, after in zip(chunks[kept:], again, strict=True):
        assert torch.equal(before.latents, after.latents)
