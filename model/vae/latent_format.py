"""The Wan 2.1 latent convention: 16 channels, 8x8 spatial, 1 + 4k frames, and the normalisation
constants.

A VAE speaks *raw* latents (what ComfyUI's LATENT holds); a DiT speaks *normalised* latents, `(raw -
mean) / std` per channel. Constants: Wan-Video/Wan2.1 `wan/modules/vae.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

LATENT_CHANNELS = 16
SPATIAL_FACTOR = 8
FRAMES_PER_LATENT = 4

WAN21_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN21_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


def frame_count(latent_frames: int) -> int:
    """Pixel frames that `latent_frames` latent frames decode to: 1 + 4 (n - 1), and 0 for none."""
    return max(0, FRAMES_PER_LATENT * latent_frames - 3)


def latent_frame_count(frames: int) -> int:
    """Latent frames needed to cover `frames` pixel frames."""
    return -(-(frames - 1) // FRAMES_PER_LATENT) + 1 if frames > 0 else 0


def normalise(raw: Tensor) -> Tensor:
    """Raw latents (b, f, 16, h, w) to the DiT's unit-variance space."""
    mean, std = _constants(raw)
    return (raw - mean) / std


def denormalise(latents: Tensor) -> Tensor:
    """The inverse of `normalise`."""
    mean, std = _constants(latents)
    return latents * std + mean


def _constants(like: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(WAN21_MEAN, dtype=like.dtype, device=like.device).view(-1, 1, 1)
    std = torch.tensor(WAN21_STD, dtype=like.dtype, device=like.device).view(-1, 1, 1)
    return mean, std
