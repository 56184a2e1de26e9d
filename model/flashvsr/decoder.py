"""FlashVSR's decoder: a TAEHV decoder that also reads the low-quality frames.

Four frames of 8 x 8 pixels lie before the channels of each latent. After both ReLUs outside memory
blocks come a 3x3 convolution and another ReLU. Source: OpenImagingLab/FlashVSR ccac0ac
`examples/WanVSR/utils/TCDecoder.py`.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import FRAMES_PER_LATENT
from ..vae.latent_format import LATENT_CHANNELS
from ..vae.taehv import TAEHVConfig, TAEHVDecoder
from ..vae.tiny import Conv, Memory, ReLU

PIXELS = 8  # rows and columns of pixels in a latent cell
GUIDE_CHANNELS = 3 * FRAMES_PER_LATENT * PIXELS**2
DEEPER = (2, 18)
"""Where `TAEHVDecoder` has the layers after its two ReLUs; each gets a convolution before it."""


class GuidedDecoder(TAEHVDecoder):
    """Decodes latents beside the low-quality frames of the same time."""

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__(TAEHVConfig(GUIDE_CHANNELS + LATENT_CHANNELS, widths))
        layers = [*self.decoder]
        for place, width in sorted(zip(DEEPER, (widths[0], widths[3]), strict=True), reverse=True):
            layers[place:place] = [Conv(width, width, bias=False), ReLU()]
        self.decoder = nn.ModuleList(layers)

    def decode(self, latents: Tensor, guide: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Frames (n, 3, H, W), around [0, 1], of latents (f, 16, h, w), and the memory after them.

        `guide` (n, 3, H, W) are the low-quality frames in [-1, 1]: 4 for each latent, except 1 for
        the first of a video, whose memory is empty.
        """
        start, lead = not memory, FRAMES_PER_LATENT - 1
        if start:
            guide = torch.cat([guide[:1].expand(lead, -1, -1, -1), guide])
            memory = self.start(self.decoder)
        cells = rearrange(guide, "(f t) c (h i) (w j) -> f (c t i j) h w",
                          t=FRAMES_PER_LATENT, i=PIXELS, j=PIXELS)  # fmt: skip
        frames, memory = self.decode_groups(torch.cat([cells, latents], 1)[None], memory)
        return frames[0, lead if start else 0 :], memory
