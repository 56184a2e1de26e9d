"""Audio features that make a model speak, for each picture of a shot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.audio.resampler import AudioResampler
from torch import Tensor

from ...errors import BadInput
from ...model.config import FRAMES_PER_LATENT
from ...stream.video.sound.reading import Samples, Sound, SoundReader

SAMPLES_PER_SECOND = 16_000
PIECE_S, MARGIN_S = 60, 2  # of a long sound: pieces, and what is heard around each
SILENCE_S = 1  # after the sound, so that the mouth closes
READ_S = 10

FeaturesOf = Callable[[Tensor, int], Tensor]
"""(samples (n,), number of pictures from end to end) -> features of each (p, AUDIO_FEATURES)."""


@dataclass(frozen=True, eq=False)
class Voice:
    """A sound to be spoken, and what hears it once a model says how many pictures a second it has.

    `samples` (n,) have mean 0 and variance 1.
    """

    samples: Tensor = field(repr=False)
    features_of: FeaturesOf = field(repr=False)
    _heard: dict[float, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def seconds(self) -> float:
        """How long the sound is, without the silence after its end."""
        return len(self.samples) / SAMPLES_PER_SECOND

    def is_heard(self, fps: float) -> bool:
        """Whether the features for this rate are there."""
        return fps in self._heard

    def features(self, fps: float) -> Tensor:
        """The features of each picture (p, AUDIO_FEATURES), bfloat16, of `fps` ones a second.

        They are kept for the next shot of the same rate.
        """
        if not self.is_heard(fps):
            self._heard.clear()
            self._heard[fps] = hear(self.samples, fps, self.features_of)
        return self._heard[fps]


def voice(sound: Sound, features_of: FeaturesOf) -> Voice:
    """The voice of a sound; BadInput if that is empty."""
    return Voice(_evened(samples_of(sound, SAMPLES_PER_SECOND)), features_of)


def hear(samples: Tensor, fps: float, features_of: FeaturesOf) -> Tensor:
    """Hear samples (n,), and a second of silence after their end, at `fps` pictures a second.

    A sound of up to a minute is heard as a whole, as LiveTalk's authors do. A longer one is heard
    in pieces of a minute, with two seconds around each.
    """
    seconds = len(samples) / SAMPLES_PER_SECOND
    latents = math.ceil((seconds + SILENCE_S) * fps / FRAMES_PER_LATENT)
    pictures = FRAMES_PER_LATENT * latents + 1
    padded = F.pad(samples, (0, max(0, _at(pictures - 1, fps) - len(samples))))
    parts = []
    for first, stop in _pieces(pictures, fps):
        low = max(0, first - round(MARGIN_S * fps))
        high = min(pictures, stop + round(MARGIN_S * fps))
        part = features_of(padded[_at(low, fps) : _at(high - 1, fps)], high - low)
        parts.append(part[first - low : stop - low].bfloat16())
    return torch.cat(parts)


def samples_of(sound: Sound, rate: int) -> Tensor:
    """The sound's channels as one (n,), float32, `rate` samples a second; BadInput without any."""
    resampler = AudioResampler("fltp", "mono", rate)
    resampled = (resampler.resample(frame) for frame in chain(_mono(sound), [None]))
    blocks = [block.to_ndarray()[0] for some in resampled for block in some]
    if not any(map(len, blocks)):
        raise BadInput("The sound is empty; choose another file, or a longer part of it.")
    return torch.from_numpy(np.concatenate(blocks))


def _mono(sound: Sound) -> Iterator[av.AudioFrame]:
    """The mean of the channels, a few seconds at a time."""
    with closing(SoundReader(sound)) as reader:
        while (block := reader.read(READ_S * sound.rate)).shape[1]:
            mean: Samples = block.mean(0, keepdims=True).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mean), "fltp", "mono")
            frame.sample_rate = sound.rate
            yield frame


def _evened(samples: Tensor) -> Tensor:
    """The samples with mean 0 and variance 1, as wav2vec2-base-960h was trained."""
    deviation = samples - samples.mean()
    return deviation / (deviation.square().mean() + 1e-7).sqrt()


def _pieces(pictures: int, fps: float) -> Iterator[tuple[int, int]]:
    """First picture of each piece, and of the next one."""
    size = round(PIECE_S * fps)
    count = max(1, round(pictures / size))
    edges = [round(i * pictures / count) for i in range(count + 1)]
    yield from zip(edges, edges[1:], strict=False)


def _at(picture: int, fps: float) -> int:
    """The sample at which a picture is shown."""
    return round(picture / fps * SAMPLES_PER_SECOND)
