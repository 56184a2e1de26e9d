"""What is heard in a sound over time: how loud it is, its bands, and where notes begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ...stream.video.sound.reading import Sound, SoundReader

Values = NDArray[np.float64]

PER_SECOND = 100
"""Values a second."""
WINDOW_S = 0.046
COMPRESSION = 100.0
"""Factor on magnitudes before their logarithm, so that quiet onsets count too."""
LOUDEST_PERCENTILE = 99
"""Louder moments than this share of a sound count as 1."""
BANDS_HZ = {
    "loudness": (20, 20000), "bass": (20, 250), "middle": (250, 4000), "treble": (4000, 20000),
}  # fmt: skip

Spectrum = Values
"""Magnitudes of a window (k,), as a share of full scale."""


def heard(sound: Sound, feature: str) -> Values:
    """A feature of a sound from 0 to 1, where 1 is nearly the most, `PER_SECOND` values a second.

    `onsets` is the spectral flux of log magnitudes (Boeck and Widmer, DAFx 2013, without their
    filter); the others are root mean squares of `BANDS_HZ`. BadInput for a sound of fewer samples
    than values a second.
    """
    if sound.rate < PER_SECOND:
        raise BadInput(
            f"The audio has only {sound.rate} samples a second; give a sound of at least "
            f"{PER_SECOND}."
        )
    window = round(WINDOW_S * sound.rate)
    frequencies = np.fft.rfftfreq(window, 1 / sound.rate)
    measure = _flux() if feature == "onsets" else _level(feature, frequencies)
    return _relative(np.array([measure(spectrum) for spectrum in _spectra(sound, window)]))


def falling(values: Values, seconds: float) -> Values:
    """Rise at once with the values, and fall to a third of a peak in about so many `seconds`."""
    if seconds == 0:
        return values
    share, level, followed = np.exp(-1 / (PER_SECOND * seconds)), 0.0, np.empty_like(values)
    for i, value in enumerate(values):
        level = max(float(value), level * share)
        followed[i] = level
    return followed


def _spectra(sound: Sound, window: int) -> Iterator[Spectrum]:
    """The magnitudes of the `window` samples up to each moment; silence lies before the sound."""
    step, shape = sound.rate / PER_SECOND, np.hanning(window)
    scale = np.sqrt((shape**2).sum() * window / 2)
    samples, position = np.zeros(window), 0
    with closing(SoundReader(sound)) as reader:
        for moment in count(1):
            missing = round(moment * step) - position
            block = reader.read(missing)
            if block.shape[1] < missing:
                return
            samples = np.concatenate([samples[missing:], block.mean(0)])
            position += missing
            yield np.abs(np.fft.rfft(samples * shape)) / scale


def _level(feature: str, frequencies: Values) -> Callable[[Spectrum], float]:
    low, high = BANDS_HZ[feature]
    inside = (frequencies >= low) & (frequencies < high)
    return lambda spectrum: float(np.sqrt((spectrum[inside] ** 2).sum()))


def _flux() -> Callable[[Spectrum], float]:
    """How much louder frequencies got since the spectrum before, in logarithms."""
    before = [np.zeros(1)]

    def measure(spectrum: Spectrum) -> float:
        now = np.log1p(COMPRESSION * spectrum)
        rise = np.maximum(now - before[0], 0).sum()
        before[0] = now
        return float(rise)

    return measure


def _relative(values: Values) -> Values:
    """Shares of nearly the most, at most 1; all 0 of silence."""
    most = np.percentile(values, LOUDEST_PERCENTILE) if values.size else 0.0
    return np.clip(values / most, 0, 1) if most > 0 else np.zeros_like(values)
