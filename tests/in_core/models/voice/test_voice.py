"""Models that speak in the real core: what is heard, and a LiveTalk that the core builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.checkpoint import open_checkpoint
from longtake.model.dit import WanDiT
from longtake.model.families.table import BY_KEY
from longtake.model.preset_cache import preset_cache
from longtake.model.voice import AUDIO_FEATURES
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.family_files import speaking_state
from longtake.tests.support.tiny_model import CHUNKS, randn

FRAMES, ROWS, COLUMNS = 6, 4, 6
HZ = 16_000


@pytest.fixture(scope="module")
def wav2vec() -> Any:
    """Wav2vec 2.0 base of `transformers`, with random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    return transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).eval()


def encoder_of(wav2vec: Any) -> Any:
    """The core's AUDIO_ENCODER of the same weights, by the names of wav2vec2-base-960h's file."""
    import comfy.audio_encoders.audio_encoders as encoders

    weights = {}
    for name, tensor in wav2vec.state_dict().items():
        older = name.replace("parametrizations.weight.original0", "weight_g")
        older = older.replace("parametrizations.weight.original1", "weight_v")
        weights[f"wav2vec2.{older}"] = tensor.clone()
    return encoders.load_audio_encoder_from_sd(weights)


def heard_by_transformers(wav2vec: Any, samples: Tensor, pictures: int) -> Tensor:
    """As LiveTalk's authors call it: features stretched to the pictures, then the encoder."""
    features = wav2vec.feature_extractor(samples[None])
    stretched = F.interpolate(features, size=pictures, mode="linear", align_corners=True)
    hidden, _ = wav2vec.feature_projection(stretched.transpose(1, 2))
    layers = wav2vec.encoder.layers
    states = list[Tensor]()
    watches = [layers[0].register_forward_pre_hook(lambda _, args: states.append(args[0]))]
    watches += [
        layer.register_forward_hook(lambda _, __, out: states.append(out[0])) for layer in layers
    ]
    last = wav2vec.encoder(hidden).last_hidden_state
    for watch in watches:
        watch.remove()
    return torch.cat([last, *(state.view(1, pictures, -1) for state in states)], -1)[0]


@torch.inference_mode()
def test_what_is_heard_is_what_transformers_hears(core: Any, wav2vec: Any) -> None:
    """A sound at 16,000 a second: cut at the shot's end, with mean 0 and variance 1."""
    from longtake.nodes import host
    from longtake.nodes.sound.voice_features import voice
    from longtake.stream.video.sound.in_memory import SoundInMemory

    encoder = encoder_of(wav2vec)
    host.check_audio_encoder(encoder)
    seconds = 1.25  # 20 pictures, then a second of silence: 37 with both ends
    samples = randn(round(seconds * HZ), seed=6)
    spoken = voice(
        SoundInMemory(samples[None, None], HZ),
        lambda *sound: host.audio_features(encoder, *sound),
    )
    heard = spoken.features(16.0)
    numbers = samples.numpy()
    evened = (numbers - numbers.mean()) / np.sqrt(numbers.var() + 1e-7)
    whole = F.pad(torch.from_numpy(evened), (0, round(2.25 * HZ) - len(evened)))
    expected = heard_by_transformers(wav2vec, whole, 37)
    assert heard.shape == expected.shape == (37, AUDIO_FEATURES)
    torch.testing.assert_close(heard.float(), expected, rtol=1e-2, atol=1e-2)


def test_another_encoder_is_refused(core: Any) -> None:
    from types import SimpleNamespace

    from longtake.nodes import host

    with pytest.raises(BadInput, match="wav2vec2-base-960h"):
        host.check_audio_encoder(SimpleNamespace(model=torch.nn.Linear(2, 2)))


@torch.inference_mode()
def test_a_rollout_on_the_hosts_model_is_that_on_our_own_tree(core: Any, tmp_path: Path) -> None:
    """Built by the host from the file, with a picture of its own node and a voice of ours."""
    from longtake.nodes import host
    from longtake.nodes.attachments import PICTURE, VOICE
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline
    from longtake.nodes.conditioning.reference import reference
    from longtake.nodes.length import snapped_length
    from longtake.nodes.models.channels import check_channels
    from longtake.nodes.models.model_facts import facts
    from longtake.nodes.runtime.resolved_model import denoiser
    from longtake.nodes.sound.in_shot import with_voice
    from longtake.nodes.sound.voice_features import Voice

    weights, file = speaking_state(), tmp_path / "model.safetensors"
    save_file(weights, file)
    checkpoint = open_checkpoint(file)
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), torch.float32)
    engine: Denoiser = denoiser(model)
    assert engine.config == checkpoint.recognition.config
    check_channels(engine.config)
    assert facts(model).family.key == "livetalk"
    mask = torch.ones(1, 1, FRAMES, ROWS, COLUMNS)
    mask[:, :, 0] = 0
    spoken = Voice(
        torch.zeros(HZ), lambda samples, count: randn(count, AUDIO_FEATURES, seed=2)
    )  # a second
    options: dict[str, Any] = {
        PICTURE: randn(1, 16, FRAMES, ROWS, COLUMNS, seed=3), "concat_mask": mask, VOICE: spoken,
    }  # fmt: skip
    words: list[Any] = [[randn(1, 9, engine.config.text_dim, seed=4), options]]
    length, preset = snapped_length(21, "frames", 16.0, 3, 0), BY_KEY["livetalk"].preset
    settings = RolloutSettings(
        prompt_timeline(words, engine.config, length), ROWS, COLUMNS, CHUNKS, length=FRAMES, seed=5,
        cache=preset_cache(preset),
        reference=with_voice(reference(engine.config, words), engine.config, preset, words),
    )  # fmt: skip

    def latents(of: Denoiser) -> Tensor:
        return torch.cat([chunk.latents for chunk in generate(settings, of)])

    plain = WanDiT(checkpoint.recognition.config)
    plain.load_state_dict(weights)
    ours = latents(local_denoiser(plain.eval(), checkpoint.recognition.config))
    torch.testing.assert_close(latents(engine), ours, rtol=0, atol=1e-4)
