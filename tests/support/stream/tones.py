"""A tone as the sound of a run, and its pitch where it is heard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from longtake.stream.video.sound.in_memory import SoundInMemory
from longtake.tests.support.stream.live_site import FPS

RATE = 44100  # not that of the address
TONE_HZ = 660
FIRST = 40  # the picture with which the tone begins


def tone(pictures: int) -> SoundInMemory:
    """Silence, and a tone from picture `FIRST` on."""
    seconds = torch.arange(round(pictures / FPS * RATE)) / RATE
    waves = 0.5 * torch.sin(2 * torch.pi * TONE_HZ * seconds) * (seconds >= FIRST / FPS)
    return SoundInMemory(waves.expand(1, 2, -1), RATE)


def pitch_hz(samples: npt.NDArray[np.float32], rate: int) -> float:
    """The strongest frequency."""
    windowed = samples * np.hanning(len(samples))
    return float(np.abs(np.fft.rfft(windowed, 1 << 18)).argmax()) * rate / (1 << 18)
