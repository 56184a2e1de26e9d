"""Re-encodes the oldest frame of a window as the first frame of a video.

The first latent frame of a Wan video stands for one picture, every later one for four. Once that
frame has left the window, the last picture of the oldest remaining frame is encoded as the only
picture of a video (Krea realtime, `release_server.py get_clean_context_frames`; CausVid restarts
its windows in the same way).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...model.vae.protocol import StreamingCodec

LOOKBACK_FRAMES = 4  # as far back as a tiny VAE looks; 16 pictures of other VAEs


@dataclass(frozen=True, slots=True)
class ReencodedFirstFrame:
    """The VAE that re-encodes, identified by its `digest`; `room_bytes` is the memory it needs."""

    codec: StreamingCodec = field(compare=False, repr=False)
    digest: str
    room_bytes: int = field(default=0, compare=False)

    @torch.no_grad()
    def latent(self, latents: Tensor) -> Tensor:
        """Encode the last of consecutive `latents` (f, c, h, w) as a first frame (c, h, w)."""
        picture = self.codec.open_decoder().feed(latents.to(self.codec.device))[-1:]
        encoder = self.codec.open_encoder()
        parts = encoder.feed(picture), encoder.drain()
        encoding = torch.cat([part for part in parts if part is not None])
        return encoding[0].to(latents)
