"""What is heard in sounds whose loudness, bands and beats are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from longtake.errors import BadInput
from longtake.nodes.sound.features import PER_SECOND, Values, falling, heard
from longtake.stream.video.sound.in_memory import SoundInMemory

RATE, SECONDS = 22_050, 4
TIMES = np.arange(RATE * SECONDS) / RATE


def sound(samples: NDArray[np.float64], channels: int = 1) -> SoundInMemory:
    waveform = torch.from_numpy(samples.astype(np.float32)).expand(1, channels, -1)
    return SoundInMemory(waveform, RATE)


def tone(hertz: float, begin: float, end: float, loud: float = 0.5) -> NDArray[np.float64]:
    return loud * np.sin(2 * np.pi * hertz * TIMES) * ((begin <= TIMES) & (end > TIMES))


def mean(values: Values, begin: float, end: float) -> float:
    """Between two seconds, away from edges."""
    return float(values[round(PER_SECOND * begin) + 6 : round(PER_SECOND * end) - 1].mean())


@pytest.mark.parametrize("channels", [1, 2])
def test_loudness_is_the_root_mean_square_of_the_samples(channels: int) -> None:
    samples = tone(440, 0, 4) * (0.2 + 0.8 * np.abs(np.sin(np.pi * TIMES / 4)))
    found = heard(sound(samples, channels), "loudness")
    window = round(0.046 * RATE)
    ends = [round(RATE * (i + 1) / PER_SECOND) for i in range(len(found))]
    plain = np.array([np.sqrt((samples[max(0, e - window) : e] ** 2).mean()) for e in ends])
    assert len(found) == SECONDS * PER_SECOND
    expected = np.clip(plain / np.percentile(plain, 99), 0, 1)
    assert np.abs(found - expected)[10:].max() < 0.03


def test_each_band_hears_its_own_tone_alone() -> None:
    tones = {"bass": (100, 0), "middle": (1000, 1), "treble": (8000, 2)}
    mixed = sum(tone(hertz, at, at + 1) for hertz, at in tones.values())
    for name, (_, at) in tones.items():
        found = heard(sound(np.asarray(mixed)), name)
        assert mean(found, at, at + 1) > 0.95
        assert all(mean(found, t, t + 1) < 0.05 for _, t in tones.values() if t != at)


def test_onsets_are_where_tones_begin_however_loud() -> None:
    begins = [0.5, 1.25, 2.0, 2.9, 3.4]
    notes = [
        tone(300 + 90 * i, at, 4, 0.1 + 0.2 * i) * np.exp(-9 * np.maximum(TIMES - at, 0))
        for i, at in enumerate(begins)
    ]
    found = heard(sound(np.sum(notes, 0)), "onsets")
    near = [range(round(at * PER_SECOND) - 2, round(at * PER_SECOND) + 6) for at in begins]
    assert all(found[[*part]].max() > 0.2 for part in near)
    elsewhere = np.delete(found, [i for part in near for i in part])
    assert elsewhere.max() < 0.05


def test_onsets_are_the_rises_of_log_magnitudes() -> None:
    """Against a loop over windows cut from the whole sound, at a rate of no whole steps."""
    rate, rng = 11_025, np.random.default_rng(3)
    bursts = np.repeat(rng.random((2, 12)) ** 3, rate // 4, 1)
    stereo = bursts * rng.uniform(-1, 1, bursts.shape)
    waveform = torch.from_numpy(stereo.astype(np.float32))[None]
    found = heard(SoundInMemory(waveform, rate), "onsets")
    window = round(0.046 * rate)
    padded = np.concatenate([np.zeros(window), waveform[0].double().mean(0).numpy()])
    shape, before, rises = np.hanning(window), 0.0, list[float]()
    for i in range(len(found)):
        end = round(rate * (i + 1) / PER_SECOND)
        part = np.abs(np.fft.rfft(padded[end : end + window] * shape))
        now = np.log1p(100 * part / np.sqrt((shape**2).sum() * window / 2))
        rises.append(float(np.clip(now - before, 0, None).sum()))
        before = now
    expected = np.minimum(np.array(rises) / np.percentile(rises, 99), 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("feature", ["loudness", "onsets", "treble"])
def test_silence_is_nothing(feature: str) -> None:
    assert not heard(sound(np.zeros(RATE)), feature).any()


@pytest.mark.parametrize("feature", ["loudness", "onsets"])
def test_a_sound_of_hardly_any_samples_is_refused(feature: str) -> None:
    few = SoundInMemory(torch.full((1, 1, 80), 0.5), 8)
    with pytest.raises(BadInput, match="only 8 samples a second; give a sound of at least 100"):
        heard(few, feature)
    assert heard(SoundInMemory(few.waveform, PER_SECOND), feature).size


def test_a_peak_falls_to_a_third_in_the_seconds_given() -> None:
    values = np.zeros(3 * PER_SECOND)
    values[50], values[200] = 1, 0.5
    followed = falling(values, 0.4)
    assert followed[50] == 1 and not followed[:50].any()
    assert followed[50 + round(0.4 * PER_SECOND)] == pytest.approx(np.exp(-1), rel=1e-6)
    assert followed[200] == 0.5 and falling(values, 0) is values


def test_a_sound_in_one_block_and_in_many_is_heard_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = sound(tone(440, 1, 3))
    expected = heard(whole, "onsets")
    blocks: Callable[[SoundInMemory], object] = SoundInMemory.blocks

    def pieces(self: SoundInMemory) -> object:
        for block in blocks(self):  # type: ignore[attr-defined]
            for start in range(0, block.shape[1], 777):
                yield block[:, start : start + 777]

    monkeypatch.setattr(SoundInMemory, "blocks", pieces)
    assert np.array_equal(heard(whole, "onsets"), expected)
