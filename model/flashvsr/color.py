"""Colours of the low-quality frames for the sharp ones: by statistics or by low frequencies.

Source: OpenImagingLab/FlashVSR ccac0ac `diffsynth/pipelines/flashvsr_tiny.py`,
`TorchColorCorrectorWavelet`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ADAIN_EPS = 1e-5
LEVELS = 5
BLUR = (0.25, 0.5, 0.25)  # in each direction

Correct = Callable[[Tensor, Tensor], Tensor]
"""(sharp frames, low-quality frames) -> frames, all (n, 3, H, W)."""


def keep_colors(sharp: Tensor, guide: Tensor) -> Tensor:  # noqa: ARG001
    """Return the sharp frames as they are."""
    return sharp


def match_statistics(sharp: Tensor, guide: Tensor) -> Tensor:
    """Give each channel of each frame the mean and deviation that it has in `guide` (AdaIN)."""
    (mean, deviation), (guide_mean, guide_deviation) = _statistics(sharp), _statistics(guide)
    return (sharp - mean) / deviation * guide_deviation + guide_mean


def match_low_frequencies(sharp: Tensor, guide: Tensor) -> Tensor:
    """Take the coarse wavelet levels of `guide` and the fine ones of `sharp`."""
    return sharp - _blurred(sharp) + _blurred(guide)


CORRECTIONS: dict[str, Correct] = {
    "adain": match_statistics,
    "wavelet": match_low_frequencies,
    "none": keep_colors,
}


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return mean, (variance + ADAIN_EPS).sqrt()


def _blurred(x: Tensor) -> Tensor:
    """x (n, c, H, W) after blurs of 1, 2, 4, 8 and 16 pixels, edges repeated."""
    line = x.new_tensor(BLUR)
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    for level in range(LEVELS):
        step = 2**level
        padded = F.pad(x, (step, step, step, step), mode="replicate")
        x = F.conv2d(padded, kernel, dilation=step, groups=x.shape[1])
    return x
