"""Streaming over the module tree of the Wan 2.2 VAE (48 channels, 16x16).

As that of Wan 2.1, but called as its tree calls itself: one latent at a time, told which is the
first, and four frames at a time; and it works on patches of 2x2 pixels. Source: Wan-Video/Wan2.2
`wan/modules/vae2_2.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..config import FRAMES_PER_LATENT
from .latent_format import WAN22, normalise
from .memory_order import by_pixel_in_half
from .streaming import completion, expect
from .wan_layers import CHANNELS
from .wan_streaming import WanStreamingDecoder, WanStreamingEncoder, convolutions

PATCH = 2  # pixels


class Wan22StreamingDecoder(WanStreamingDecoder):
    """Normalised latents (f, 48, h, w) to frames (n, 3, 16h, 16w) in [0, 1], float32."""

    form = WAN22

    def _pixels(self, z: Tensor) -> Tensor:
        out = [
            self._stream.feed(latent, first_chunk=not self._started and i == 0)
            for i, latent in enumerate(z.split(1, 2))
        ]
        patched = torch.cat(out, 2)
        return rearrange(patched, "b (c r q) f h w -> b c f (h q) (w r)", q=PATCH, r=PATCH)


class Wan22StreamingEncoder(WanStreamingEncoder):
    """Frames (n, 3, 16h, 16w) in [0, 1] to normalised latents (f, 48, h, w), float32.

    Holds at most three frames back.
    """

    form = WAN22

    @torch.no_grad()
    def feed(self, frames: Tensor) -> Tensor:
        """Encode what completes a latent: one frame for the first, four for each later one."""
        expect(frames, "frames", 3)
        waiting = frames if self._waiting is None else torch.cat([self._waiting, frames])
        latents = [self._none(frames)]
        while len(waiting) >= (needed := FRAMES_PER_LATENT if self._fed else 1):
            latents.append(self._encode(waiting[:needed]))
            waiting = waiting[needed:]
        self._waiting = waiting.clone()
        return torch.cat(latents)

    @torch.no_grad()
    def drain(self) -> Tensor | None:
        """The last latent, completed by repeating the last frame."""
        repeated = completion(self._waiting)
        return None if repeated is None else self.feed(repeated)

    def _slots(self) -> int:
        return len(convolutions(self._tree.encoder))

    def _encode(self, frames: Tensor, **_: Any) -> Tensor:
        self._fed += len(frames)
        x = (2 * frames - 1).to(self._dtype).transpose(0, 1).unsqueeze(0)  # (1, 3, n, H, W)
        patched = rearrange(x, "b c f (h q) (w r) -> b (c r q) f h w", q=PATCH, r=PATCH)
        patched = by_pixel_in_half(patched, CHANNELS)
        mean = self._tree.conv1(self._tree.encoder(patched, self._cache, [0])).chunk(2, 1)[0]
        return normalise(mean[0].transpose(0, 1).float())
