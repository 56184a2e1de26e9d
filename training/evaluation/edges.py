"""How sharp a picture is: the energy of its edges, fine ones against all.

A smeared picture lacks fine edges. How many edges there are also depends on the landscape; so the
energy is divided by that of the same picture at half size, which smearing hardly changes. The sky
is left out: a moon has more edges than the land, and a clear night without it may read as smeared.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SKY = 3 / 8  # of a picture's height; sun and moon hardly reach below it


def edge_energy(pictures: Tensor) -> Tensor:
    """The mean squared difference of neighbouring pixels (k,) of pictures (k, 3, H, W)."""
    across = pictures.diff(dim=-1).square().mean((1, 2, 3))
    down = pictures.diff(dim=-2).square().mean((1, 2, 3))
    return across + down


def fine_edges(pictures: Tensor) -> Tensor:
    """The energy of the edges below the sky as a share of that at half size (k,)."""
    pictures = pictures[..., round(SKY * pictures.shape[-2]) :, :]
    return edge_energy(pictures) / edge_energy(F.avg_pool2d(pictures, 2)).clamp(min=1e-6)
