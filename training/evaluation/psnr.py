"""Peak signal-to-noise ratio of pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(output: Tensor, target: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB, with `output` clamped to [0, 1]."""
    return float(-10 * torch.log10(F.mse_loss(output.clamp(0, 1), target)))
