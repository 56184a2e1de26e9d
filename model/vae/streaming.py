"""Streaming VAE: feed any number of frames or latents, get what is ready, equal to all-at-once for
every chunking.

decoder = StreamingDecoder(vae)
for latents in chunks:
    show(decoder.feed(latents))      # the first latent gives one frame, every later one four

encoder = StreamingEncoder(vae)
for frames in clips:
    use(encoder.feed(frames))        # possibly no latent yet
use(encoder.drain())                 # the rest, padded by repeating the last frame
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import FRAMES_PER_LATENT
from .latent_format import latent_frame_count
from .tiny import CausalDecoder, Memory, TinyVAE


class StreamingDecoder:
    """Normalised latents (f, 16, h, w) to frames (n, 3, 8h, 8w) in [0, 1].

    The state is one feature map per memory block.
    """

    def __init__(self, vae: CausalDecoder) -> None:
        self._vae = vae
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next latent is a first one."""
        self._memory: Memory = self._vae.start(self._vae.decoder)
        self._started = False

    @property
    def state_bytes(self) -> int:
        """Bytes of the remembered feature maps."""
        return sum(m.numel() * m.element_size() for m in self._memory if m is not None)

    @torch.no_grad()
    def feed(self, latents: Tensor) -> Tensor:
        """Decode the next latents; all their frames are ready at once."""
        expect(latents, "latents", 16)
        if len(latents) == 0:
            return latents.new_zeros(0, 3, 8 * latents.shape[-2], 8 * latents.shape[-1])
        frames, self._memory = self._vae.decode_groups(latents.unsqueeze(0), self._memory)
        skip = 0 if self._started else FRAMES_PER_LATENT - 1
        self._started = True
        return frames[0, skip:].clamp(0, 1)

    def drain(self) -> Tensor | None:
        """Frames still held back: none, a causal decoder keeps nothing."""
        return None

    @property
    def overlap_frames(self) -> int:
        """Latent frames to decode again before a frame in mid-stream is exact.

        How far the memory blocks reach.
        """
        return self._vae.decoder_reach


class StreamingEncoder:
    """Frames (n, 3, 8h, 8w) in [0, 1] to normalised latents (f, 16, h, w).

    Holds at most three frames back.
    """

    def __init__(self, vae: TinyVAE) -> None:
        self._vae = vae
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next frame is a first one."""
        self._memory: Memory = self._vae.start(self._vae.encoder)
        self._waiting: Tensor | None = None
        self._started = False

    @property
    def state_bytes(self) -> int:
        """Bytes of the remembered feature maps and of the frames held back."""
        tensors = [*self._memory, self._waiting]
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    @property
    def overlap_frames(self) -> int:
        """Latent frames to encode again before one in mid-stream is exact."""
        return self._vae.encoder_reach

    def latent_frames(self, pictures: int) -> int:
        """How many latent frames come of so many frames, from the first to the last one."""
        return latent_frame_count(pictures)

    @torch.no_grad()
    def feed(self, frames: Tensor) -> Tensor:
        """Encode what completes a latent: one frame for the first, four for each later one."""
        expect(frames, "frames", 3)
        if not self._started and len(frames):
            frames = torch.cat([frames[:1].expand(FRAMES_PER_LATENT - 1, -1, -1, -1), frames])
            self._started = True
        waiting = frames if self._waiting is None else torch.cat([self._waiting, frames])
        ready = len(waiting) - len(waiting) % FRAMES_PER_LATENT
        self._waiting = waiting[ready:].clone()
        if ready == 0:
            return frames.new_zeros(0, 16, frames.shape[-2] // 8, frames.shape[-1] // 8)
        latents, self._memory = self._vae.encode_groups(waiting[:ready].unsqueeze(0), self._memory)
        return latents[0]

    def drain(self) -> Tensor | None:
        """The last latent, when frames are held back: completed by repeating the last frame."""
        repeated = completion(self._waiting)
        return None if repeated is None else self.feed(repeated)


def completion(waiting: Tensor | None) -> Tensor | None:
    """The last of the frames held back (n, 3, H, W), as often as their latent lacks frames.

    None where no frame is held back.
    """
    if waiting is None or len(waiting) == 0:
        return None
    return waiting[-1:].expand(FRAMES_PER_LATENT - len(waiting), -1, -1, -1)


def expect(x: Tensor, name: str, channels: int) -> None:
    """Refuse a tensor that is not (n, channels, rows, columns)."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"{name} must be (n, {channels}, rows, columns); got {tuple(x.shape)}")
