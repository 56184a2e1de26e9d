"""Which part of a sound is heard at which picture, and what Voice and the sampler refuse."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.model.families.table import BY_KEY
from longtake.model.preset import Preset
from longtake.model.voice import AUDIO_FEATURES
from longtake.nodes.attachments import PICTURE, VOICE
from longtake.nodes.conditioning.reference import reference
from longtake.nodes.length import snapped_length
from longtake.nodes.models.channels import check_channels
from longtake.nodes.sound.in_shot import end_of_voice, sound_to_hear, with_voice
from longtake.nodes.sound.voice_features import SAMPLES_PER_SECOND, Voice, samples_of, voice
from longtake.samplers.conditioning.reference import Reference
from longtake.stream.video.sound.in_memory import SoundInMemory
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import randn

SPEAKS = DiTConfig(24, 32, 2, 4, 8, in_channels=33, out_channels=16, voice=True)
LENGTH = snapped_length(33, "frames", 16.0, 3, 0)
LIVETALK = BY_KEY["livetalk"].preset


def sound(seconds: float, rate: int = SAMPLES_PER_SECOND, channels: int = 1) -> SoundInMemory:
    """Noise, so that no part is like another."""
    return SoundInMemory(randn(1, channels, round(seconds * rate), seed=4) / 8, rate)


class Ears:
    """Hears the mean of the samples around each picture, and notes each piece."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, int]] = []

    def __call__(self, samples: Tensor, pictures: int) -> Tensor:
        self.pieces.append((len(samples), pictures))
        at = torch.linspace(0, len(samples) - 1, pictures).round().long()
        return samples[at].unsqueeze(1)


def test_a_sound_of_a_minute_is_heard_as_a_whole_with_silence_after_it() -> None:
    ears = Ears()
    spoken = voice(sound(5.0), ears)
    features = spoken.features(16.0)
    assert ears.pieces == [(6 * SAMPLES_PER_SECOND, 97)]  # 5 s, a second of silence, both ends
    assert (len(features), spoken.seconds) == (97, 5.0)
    assert features[:80].any()
    assert not features[81:].any()


def test_a_voice_is_heard_at_the_rate_of_the_model_once() -> None:
    ears = Ears()
    spoken = voice(sound(2.0), ears)
    assert not ears.pieces  # nobody has said at which rate
    assert spoken.features(25.0) is spoken.features(25.0)
    assert len(spoken.features(16.0)) == 49
    assert [pictures for _, pictures in ears.pieces] == [77, 49]
    assert not spoken.is_heard(25.0)  # one rate is kept


def test_a_long_sound_is_heard_in_pieces_that_meet() -> None:
    """Each picture hears the moment at which it is shown, as if the sound were one piece."""
    seconds = torch.arange(150 * SAMPLES_PER_SECOND) / SAMPLES_PER_SECOND
    slow = torch.sin(seconds / 7)
    ears = Ears()
    features = voice(SoundInMemory(slow[None, None], SAMPLES_PER_SECOND), ears).features(16.0)
    assert len(ears.pieces) == 3
    assert max(length for length, _ in ears.pieces) < 64 * SAMPLES_PER_SECOND
    evened = (slow - slow.mean()) / slow.std(correction=0)
    heard = features[:2400, 0].float()
    torch.testing.assert_close(heard, evened[:: SAMPLES_PER_SECOND // 16], rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (44_100, 1), (8_000, 2)])
def test_any_sound_is_heard_at_16000_a_second(rate: int, channels: int) -> None:
    """A tone of 440 Hz on all channels stays one."""
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(2 * rate) / rate)
    samples = samples_of(SoundInMemory(tone.expand(1, channels, -1), rate), SAMPLES_PER_SECOND)
    ideal = torch.sin(2 * torch.pi * 440 * torch.arange(len(samples)) / SAMPLES_PER_SECOND)
    assert abs(len(samples) - 2 * SAMPLES_PER_SECOND) <= 16
    middle = slice(SAMPLES_PER_SECOND // 2, SAMPLES_PER_SECOND)
    torch.testing.assert_close(samples[middle], ideal[middle], rtol=0, atol=0.02)


def test_an_empty_sound_is_refused() -> None:
    with pytest.raises(BadInput, match="sound is empty"):
        voice(sound(0.0), Ears())


def test_voice_needs_a_picture(bench: Bench) -> None:
    words: list[Any] = [[torch.zeros(1, 3, 8), {}]]
    ears = SimpleNamespace(model=None, patcher=None)
    audio = {"waveform": torch.zeros(1, 1, 100), "sample_rate": SAMPLES_PER_SECOND}
    with pytest.raises(BadInput, match="no picture; connect the positive conditioning"):
        bench.run("LongtakeVoice", picture=words, audio_encoder=ears, audio=audio)


def picture(**options: Any) -> list[Any]:
    """What WanImageToVideo gives for a start picture, and Voice attaches."""
    mask = torch.ones(1, 1, 9, 4, 6)
    mask[:, :, 0] = 0
    beside = {PICTURE: randn(1, 16, 9, 4, 6, seed=3), "concat_mask": mask}
    return [[randn(1, 3, 8, seed=1), beside | options]]


def spoken(seconds: float = 1.0) -> Voice:
    """A sound whose features count the pictures."""
    return Voice(torch.zeros(round(seconds * SAMPLES_PER_SECOND)), counted)


def counted(samples: Tensor, pictures: int) -> Tensor:
    """The number of each picture in all features."""
    return torch.arange(pictures).unsqueeze(1).expand(-1, AUDIO_FEATURES)


def seen(
    conditioning: list[Any], config: DiTConfig = SPEAKS, preset: Preset = LIVETALK
) -> Reference:
    found = with_voice(reference(config, conditioning), config, preset, conditioning)
    assert found is not None
    return found


def test_a_model_that_speaks_sees_the_picture_beside_every_frame() -> None:
    check_channels(SPEAKS)
    found = seen(picture(**{VOICE: spoken()}))
    assert found.start is not None
    assert found.channels.shape == (2, 17, 4, 6)
    for beside in found.channels[:, :16]:
        assert torch.equal(beside, found.start)
    assert found.channels[:, 16].flatten(1).tolist() == [[0.0] * 24, [1.0] * 24]
    assert found.voice is not None


def test_a_voice_begins_behind_a_picture_that_comes_first() -> None:
    """As AvatarForcing's authors put zeros before what wav2vec hears."""
    found = seen(picture(**{VOICE: spoken()}), preset=BY_KEY["avatar-forcing"].preset)
    assert found.voice is not None
    assert found.voice[:6, 0].tolist() == [0, 0, 1, 2, 3, 4]
    assert len(found.voice) == 53  # of two seconds, in whole latent frames


def test_prompts_may_carry_the_voice(bench: Bench) -> None:
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline

    prompt_timeline(picture(**{VOICE: spoken()}), SPEAKS, LENGTH)
    mute = replace(SPEAKS, in_channels=16, voice=False)
    with pytest.raises(BadInput, match="a voice from Voice"):
        prompt_timeline([[randn(1, 3, 8, seed=1), {VOICE: spoken()}]], mute, LENGTH)


def test_a_voice_must_fit_the_model_and_the_shot() -> None:
    with pytest.raises(BadInput, match="connect WanImageToVideo to Voice"):
        seen(picture())
    with pytest.raises(BadInput, match="does not speak"):
        seen(picture(**{VOICE: spoken()}), replace(SPEAKS, in_channels=36, voice=False))


def test_only_a_model_that_speaks_hears_and_only_what_it_has_not_heard() -> None:
    said = spoken(2.0)
    mute = replace(SPEAKS, in_channels=16, voice=False)
    assert sound_to_hear(mute, LIVETALK, picture(**{VOICE: said})) is None
    assert sound_to_hear(SPEAKS, LIVETALK, picture()) is None
    assert sound_to_hear(SPEAKS, LIVETALK, picture(**{VOICE: said})) is said
    said.features(LIVETALK.fps)
    assert sound_to_hear(SPEAKS, LIVETALK, picture(**{VOICE: said})) is None


def test_a_shot_that_outlasts_the_voice_is_told() -> None:
    silent_end = "The voice ends after 1.0 s; the rest of the shot is silent."
    assert end_of_voice(LENGTH, picture(**{VOICE: spoken()})) == [silent_end]
    assert end_of_voice(LENGTH, picture(**{VOICE: spoken(3.0)})) == []
    assert end_of_voice(LENGTH, picture()) == []
