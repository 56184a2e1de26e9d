"""How much a Wan VAE's decoder remembers from one latent frame to the next.

Every causal convolution keeps the last two frames of its input. Layers: Wan-Video/Wan2.1
`wan/modules/vae.py`, Wan-Video/Wan2.2 `wan/modules/vae2_2.py`.
"""

from __future__ import annotations

KEPT_FRAMES = 2
# (channels of the input, times as many rows and columns as the latent has, convolutions)
WAN21_SLOTS = ((16, 1, 1), (384, 1, 11), (192, 2, 1), (384, 2, 6), (192, 4, 6), (96, 8, 7))
WAN22_SLOTS = (
    (48, 1, 1), (1024, 1, 11), (1024, 2, 7), (1024, 4, 1), (512, 4, 5), (512, 8, 1), (256, 8, 6),
)  # fmt: skip


def decoder_state_values(*, five_b: bool = False) -> int:
    """Numbers kept per row and column of the latent, by the full-size VAE of either generation."""
    slots = WAN22_SLOTS if five_b else WAN21_SLOTS
    return sum(KEPT_FRAMES * channels * scale**2 * count for channels, scale, count in slots)
