"""Drift during a shot: how far a chunk's latents have moved from the shot's first chunks.

Each channel's mean m and standard deviation s are compared with m0 and s0 of the reference chunks:

    d = sqrt(mean over channels of (m - m0)^2 / s0^2 + log(s / s0)^2)

0 means the same statistics, 1 a distance of one standard deviation. A new prompt changes the
content and therefore starts a new reference. Drift measures only pictures that degrade by
themselves: washed out, burnt, frozen noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

REFERENCE_CHUNKS = 3
WARN_ABOVE = 0.5  # three shots of the demo, two minutes each, stay at 0.15 or below
MIN_DEVIATION = 1e-3  # for a constant channel


class DriftMeter:
    """Receives every chunk in order; `value` is the newest drift, None without a reference."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.largest: float | None = None
        self._prompt: str | None = None
        self._reference: list[Tensor] = []
        self._moments: tuple[Tensor, Tensor] | None = None

    @property
    def warning(self) -> float | None:
        """The newest drift if it is above the limit, else None."""
        return self.value if self.value is not None and self.value > WARN_ABOVE else None

    def chunk_done(self, latents: Tensor, prompt: str) -> None:
        """Add the next chunk: its latents (f, c, h, w) and its prompt."""
        if prompt != self._prompt:
            self._prompt, self._reference, self._moments = prompt, [], None
        if self._moments is None:
            self._reference.append(latents)
            if len(self._reference) == REFERENCE_CHUNKS:
                self._moments = _moments(torch.cat(self._reference))
                self._reference = []
            return
        self.value = _distance(_moments(latents), self._moments)
        self.largest = max(self.value, self.largest or 0.0)


def _moments(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of (f, c, h, w)."""
    values = latents.double().transpose(0, 1).flatten(1)  # (c, f h w)
    return values.mean(1), values.std(1, correction=0).clamp(min=MIN_DEVIATION)


def _distance(now: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]) -> float:
    (m, s), (m0, s0) = now, reference
    return float((((m - m0) / s0) ** 2 + torch.log(s / s0) ** 2).mean().sqrt())
