"""A window that begins as a video does, although its first latent frame has left.

The first latent frame of a Wan video stands for one picture and every later one for four. Where it
has left the window, the oldest frame that is held takes its place: its last picture, which the next
latent frame goes on from, is encoded as the only picture of a video (Krea realtime,
`release_server.py get_clean_context_frames`; CausVid restarts its windows in the same way).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...model.vae.protocol import StreamingCodec

LOOKBACK_FRAMES = 4  # as far back as a tiny VAE looks; 16 pictures of other VAEs


@dataclass(frozen=True, slots=True)
class ReencodedFirstFrame:
    """How that is done: by which VAE, known by its `digest`; `room_bytes` is what it takes."""

    codec: StreamingCodec = field(compare=False, repr=False)
    digest: str
    room_bytes: int = field(default=0, compare=False)

    @torch.no_grad()
    def latent(self, latents: Tensor) -> Tensor:
        """The last of `latents` (f, c, h, w), in a row, as a first latent frame (c, h, w)."""
        picture = self.codec.open_decoder().feed(latents.to(self.codec.device))[-1:]
        encoder = self.codec.open_encoder()
        parts = encoder.feed(picture), encoder.drain()
        made = torch.cat([part for part in parts if part is not None])
        return made[0].to(latents)
