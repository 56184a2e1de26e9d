"""The sound of a run at its live address: at the place of each picture, and silence elsewhere."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtake.errors import BadInput
from longtake.stream.live.take_sound import SAMPLE_RATE, TakeSound
from longtake.stream.video.sound.in_memory import SoundInMemory

RATE = Fraction(16)
COUNT = SAMPLE_RATE // 16


def noise(seconds: float = 3.0, rate: int = SAMPLE_RATE) -> SoundInMemory:
    generator = torch.Generator().manual_seed(1)
    return SoundInMemory(torch.rand(1, 2, round(seconds * rate), generator=generator) - 0.5, rate)


def test_pictures_in_any_order_have_the_samples_of_their_time() -> None:
    sound = noise()
    heard, samples = TakeSound(sound, RATE), sound.waveform[0].numpy()
    for picture in (0, 1, 2, 9, 10, 4, 5, 30, 31):
        expected = samples[:, picture * COUNT : (picture + 1) * COUNT]
        assert np.array_equal(heard.read(picture, COUNT), expected), picture
    heard.close()


def test_a_rate_that_divides_no_sample_still_gives_every_sample_once() -> None:
    sound, rate = noise(), Fraction(30000, 1001)
    heard, parts, done = TakeSound(sound, rate), [], 0
    for picture in range(60):
        until = round((picture + 1) * SAMPLE_RATE / rate)
        parts.append(heard.read(picture, until - done))
        done = until
    joined = np.concatenate(parts, 1)
    assert np.array_equal(joined, sound.waveform[0, :, : joined.shape[1]].numpy())


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(7)])
@pytest.mark.parametrize("ahead", [0, 1, -1, 700])
def test_after_a_jump_the_sound_begins_at_the_nearest_sample(rate: Fraction, ahead: int) -> None:
    """Samples are numbered by their values, and some pictures begin between two of them."""
    ramp = torch.arange(SAMPLE_RATE).expand(1, 2, -1) / 2**16
    heard = TakeSound(SoundInMemory(ramp, SAMPLE_RATE), rate)
    for picture in (1, 4, 2, 6, 3):  # never the next one
        first = round(picture * SAMPLE_RATE / rate) + ahead
        numbers = heard.read(picture, 5, ahead) * 2**16
        assert numbers.tolist() == [[*range(first, first + 5)]] * 2
    heard.close()


def test_sound_ahead_of_a_picture_goes_on_without_a_gap() -> None:
    """As packets of 1024 samples need it: a picture may even need none."""
    sound, parts, done = noise(), [], 0
    heard = TakeSound(sound, RATE)
    for picture in range(20):
        count = -(-((picture + 1) * COUNT - done) // 1024) * 1024 if picture % 3 else 0
        parts.append(heard.read(picture, count, done - picture * COUNT))
        done += count
    joined = np.concatenate(parts, 1)
    assert done > COUNT * 16 and np.array_equal(joined, sound.waveform[0, :, :done].numpy())


def test_after_its_end_there_is_silence() -> None:
    heard = TakeSound(noise(1.0), RATE)
    assert heard.read(15, COUNT).any() and not heard.read(16, COUNT).any()
    half = TakeSound(noise(15.5 / 16), RATE).read(15, COUNT)
    assert half[:, : COUNT // 2].any() and not half[:, COUNT // 2 :].any()
    assert TakeSound(noise(1.0), RATE).read(4000, COUNT).shape == (2, COUNT)


@pytest.mark.parametrize("channels", [1, 2])
def test_another_rate_and_mono_become_stereo_at_the_rate_of_the_address(channels: int) -> None:
    seconds = torch.arange(44100 * 2) / 44100
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * seconds).expand(1, channels, -1)
    heard = TakeSound(SoundInMemory(tone, 44100), RATE)
    samples = np.concatenate([heard.read(picture, COUNT) for picture in range(16)], 1)
    assert samples.shape == (2, SAMPLE_RATE) and np.allclose(samples[0], samples[1], atol=1e-6)
    assert int(np.abs(np.fft.rfft(samples[0])).argmax()) == 1000
    zero = np.abs(samples[0, SAMPLE_RATE // 2 :: SAMPLE_RATE // 1000])  # the tone's own zeros
    assert zero.max() < 0.02, "in phase: no sample too early or too late"


def test_a_file_that_fails_is_warned_of_once_and_silence_follows(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(self: Any) -> Any:
        raise BadInput("The file is gone.")

    monkeypatch.setattr(SoundInMemory, "blocks", fail)
    heard = TakeSound(noise(), RATE)
    with caplog.at_level(logging.WARNING, logger="longtake"):
        assert not heard.read(0, COUNT).any() and not heard.read(1, COUNT).any()
    assert [record.getMessage() for record in caplog.records] == [
        "The live sound has failed; silence follows. The file is gone."
    ]
