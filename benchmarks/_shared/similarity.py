"""How alike two videos are: structural similarity (Wang et al. 2004) with a uniform window."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

WINDOW = 7  # pixels on a side
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def ssim(video: Tensor, truth: Tensor) -> float:
    """Mean over frames, channels and whole windows of (t, 3, H, W) in [0, 1]; 1 for equal ones."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, WINDOW, 1)

    a, b = video.double(), truth.double()
    of_a, of_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - of_a**2, mean(b * b) - of_b**2
    shared = mean(a * b) - of_a * of_b
    alike = (2 * of_a * of_b + C1) * (2 * shared + C2)
    return float((alike / ((of_a**2 + of_b**2 + C1) * (var_a + var_b + C2))).mean())
