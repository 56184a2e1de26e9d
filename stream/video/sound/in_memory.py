"""A sound in memory: the host's AUDIO."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import SupportsFloat

from torch import Tensor

from ....errors import BadInput
from .mixing import CHANNELS, mix_to_stereo
from .reading import Samples

MAX_RATE = 10_000_000  # samples a second; a sound card's most is 768,000


@dataclass(frozen=True, slots=True)
class SoundInMemory:
    """A waveform (1, channels, n) in [-1, 1], with `rate` samples a second."""

    waveform: Tensor
    rate: int

    @classmethod
    def of(cls, waveform: object, rate: object) -> SoundInMemory:
        """The sound of the host's AUDIO; BadInput if it is none."""
        shape = tuple(waveform.shape) if isinstance(waveform, Tensor) else repr(waveform)[:40]
        if not isinstance(waveform, Tensor) or waveform.ndim != 3 or shape[0] != 1 or not shape[1]:
            raise BadInput(
                f"The audio has the shape {shape}; give one track of shape (1, channels, samples)."
            )
        if shape[1] not in CHANNELS:
            raise BadInput(
                f"The audio has {shape[1]} channels, for which no speakers are usual; give mono, "
                "stereo or surround sound."
            )
        if not waveform.is_floating_point():
            raise BadInput(
                f"The audio has whole numbers ({waveform.dtype}); give samples from -1 to 1."
            )
        per_second = float(rate) if isinstance(rate, SupportsFloat) else 0.0
        if not 1 <= per_second <= MAX_RATE:
            raise BadInput(
                f"The audio has {rate!r} samples a second; give a rate from 1 to {MAX_RATE:,}."
            )
        _check_finite(waveform[0], int(per_second))
        return cls(waveform, int(per_second))

    @property
    def channels(self) -> int:
        """The number of channels, 1 or 2: more are mixed to stereo."""
        return min(2, self.waveform.shape[1])

    @property
    def digest(self) -> str:
        """Equal for equal samples at an equal rate."""
        samples = self.waveform.detach().float().cpu().contiguous().numpy()
        return f"{hashlib.sha256(samples.tobytes()).hexdigest()} {self.rate}"

    def blocks(self) -> Generator[Samples]:
        """The waveform in pieces of one second."""
        pieces = self.waveform[0].split(self.rate, dim=1)
        blocks: Generator[Samples] = (piece.float().numpy(force=True) for piece in pieces)
        yield from blocks if self.waveform.shape[1] <= 2 else mix_to_stereo(blocks, self.rate)

    def later(self, seconds: float) -> SoundInMemory:
        """The samples from `seconds` on, without copying them."""
        return SoundInMemory(self.waveform[..., round(seconds * self.rate) :], self.rate)


def _check_finite(samples: Tensor, rate: int) -> None:
    """Refuse samples (channels, n) that no encoder takes: NaN or infinity."""
    wrong = (~samples.isfinite()).any(0).nonzero().flatten()
    if len(wrong):
        raise BadInput(
            f"The audio has no number at {int(wrong[0]) / rate:.2f} s (NaN or infinity); give "
            "another sound, or check the node that makes it."
        )
