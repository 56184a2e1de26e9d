"""LiveTalk by its preset, against what its authors' own code made of the same inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.families.table import BY_KEY
from longtake.model.voice import AUDIO_FEATURES, voice_layers
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise
from longtake.tests.support.samplers.authors import FOLDER, SEED, preset_rollout, shot_settings
from longtake.tests.support.tiny_model import TINY, random_dit

SPEAKS = replace(TINY, num_layers=6, in_channels=9, voice=True)
"""Noise, picture and mask; two of six blocks take the voice."""
PRESET = BY_KEY["livetalk"].preset
RUN = load_file(FOLDER / "livetalk.safetensors")
CLOSE = {"rtol": 0, "atol": 5e-5}


def picture_and_voice(**changes: Any) -> Reference:
    """The picture and the voice of the authors' run."""
    picture = RUN["picture"]
    marks = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, *picture.shape[1:])
    channels = torch.cat([picture.expand(2, -1, -1, -1), marks], 1)
    pictures = 4 * len(RUN["latents"]) - 3
    voice = addressed_noise(SEED, 0, 0, "voice", (pictures, AUDIO_FEATURES))
    return replace(Reference(channels, voice=voice, start=picture), **changes)


def rollout(reference: Reference, **changes: Any) -> Tensor:
    """Ours on the authors' inputs."""
    model = local_denoiser(random_dit(SPEAKS, 3), SPEAKS)
    return preset_rollout(
        RUN["text"], RUN["latents"], model, PRESET, reference=reference, **changes
    )


@torch.inference_mode()
def test_a_shot_is_the_authors_own() -> None:
    """Picture, voice, levels, sink and window, from the first chunk to the last."""
    assert voice_layers(SPEAKS) == 2
    torch.testing.assert_close(rollout(picture_and_voice()), RUN["latents"], **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize("part", ["voice", "start"])
def test_without_a_part_the_shot_is_another(part: str) -> None:
    """Silence for the voice; a first frame of noise for the picture."""
    whole = picture_and_voice()
    assert whole.voice is not None
    nothing = torch.zeros_like(whole.voice) if part == "voice" else None
    other = rollout(replace(whole, **{part: nothing}))
    assert (other - RUN["latents"]).abs().max() > 100 * CLOSE["atol"]


@torch.inference_mode()
def test_the_first_latent_frame_is_the_picture() -> None:
    assert torch.equal(rollout(picture_and_voice())[0], RUN["picture"])


@torch.inference_mode()
@pytest.mark.parametrize("kept", [1, 6])
def test_a_shot_goes_on_with_the_same_bits(kept: int) -> None:
    """After the first chunk, which holds the picture, and past the sink."""
    settings = shot_settings(RUN["text"], RUN["latents"], PRESET, reference=picture_and_voice())
    model = local_denoiser(random_dit(SPEAKS, 3), SPEAKS)
    chunks = [*generate(settings, model)]
    again = [*generate(settings, model, chunks[:kept])]
    for before, after in zip(chunks[kept:], again, strict=True):
        assert torch.equal(before.latents, after.latents)


def test_four_pictures_of_a_latent_frame_are_heard() -> None:
    """The first latent frame is one picture; after the end the last sound goes on."""
    numbers = torch.arange(9.0).unsqueeze(1)
    heard = Reference(torch.zeros(1, 5, 2, 2), voice=numbers).voice_at([0, 1, 2, 3])
    assert heard is not None
    expected = [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8], [8, 8, 8, 8]]
    assert heard.tolist() == expected


def test_a_voice_and_a_model_that_speaks_belong_together() -> None:
    whole = picture_and_voice()
    with pytest.raises(BadInput, match="speaks a voice; give it one"):
        rollout(replace(whole, voice=None))
    mute = replace(SPEAKS, voice=False)
    settings = shot_settings(RUN["text"], RUN["latents"], PRESET, reference=whole)
    with pytest.raises(BadInput, match="takes no voice"):
        [*generate(settings, local_denoiser(random_dit(mute, 3), mute))]
