"""Similarity of two videos: SSIM (Wang et al. 2004) with a uniform window."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

WINDOW = 7  # pixels on a side
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def ssim(video: Tensor, truth: Tensor) -> float:
    """Return the mean SSIM over frames, channels and whole windows of (t, 3, H, W) in [0, 1]."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, WINDOW, 1)

    a, b = video.double(), truth.double()
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    return float((similarity / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))).mean())
