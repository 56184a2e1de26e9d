"""Streaming over the module tree of a TAEHV-like tiny VAE: taew2_1, taew2_2, lighttaew2_1 and 2_2.

Its memory blocks look at the frame before, and that is all there is to keep. taew wants normalised
latents; lighttae has the same layers and wants raw ones (`raw`), which nothing in a file tells.
Source: madebyollin/taehv `taehv.py`; ModelTC/LightX2V `vae_tiny.py` for the latents of lighttae.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import FRAMES_PER_LATENT
from .latent_format import FORMATS, denormalise, normalise
from .memory_order import by_pixel
from .streaming import completion, expect

Memory = list[Tensor | None]
"""The frame before (1, c, h, w) at each memory block, None at the start."""


class TAEHVStreamingDecoder:
    """Normalised latents (f, c, h, w) to frames (n, 3, H, W) in [0, 1], float32."""

    def __init__(self, tree: Any, dtype: torch.dtype, *, raw: bool) -> None:
        self._tree, self._dtype, self._raw = tree, dtype, raw
        self._form = FORMATS[tree.latent_channels]
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next latent is a first one."""
        self._memory: Memory = [None] * len(_memory_blocks(self._tree.decoder))
        self._started = False

    @property
    def state_bytes(self) -> int:
        """Bytes of the remembered frames."""
        return _bytes(self._memory)

    @torch.no_grad()
    def feed(self, latents: Tensor) -> Tensor:
        """Decode the next latents; all their frames are ready at once."""
        expect(latents, "latents", self._form.channels)
        if len(latents) == 0:
            size = (self._form.spatial_factor * side for side in latents.shape[-2:])
            return torch.zeros(0, 3, *size, device=latents.device)
        z = denormalise(latents) if self._raw else latents
        x = _through(self._tree.decoder, z.to(self._dtype), self._memory)
        skip = 0 if self._started else FRAMES_PER_LATENT - 1
        self._started = True
        return F.pixel_shuffle(x, self._tree.patch_size)[skip:].float().clamp(0, 1)

    def drain(self) -> Tensor | None:
        """Frames still held back: none, a causal decoder keeps nothing."""
        return None

    @property
    def overlap_frames(self) -> int:
        """Latent frames to decode again before a frame in mid-stream is exact."""
        reach, frames = 0.0, 1
        for layer in self._tree.decoder:
            frames *= layer.stride if _changes_time(layer) else 1
            reach += 1 / frames if _is_memory_block(layer) else 0
        return int(-(-reach // 1))


class TAEHVStreamingEncoder:
    """Frames (n, 3, H, W) in [0, 1] to normalised latents (f, c, h, w), float32.

    A latent is four frames, the first one too, as TAEHV itself has it; holds at most three back.
    """

    def __init__(self, tree: Any, dtype: torch.dtype, *, raw: bool) -> None:
        self._tree, self._dtype, self._raw = tree, dtype, raw
        self._form = FORMATS[tree.latent_channels]
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next frame is a first one."""
        self._memory: Memory = [None] * len(_memory_blocks(self._tree.encoder))
        self._waiting: Tensor | None = None

    @property
    def state_bytes(self) -> int:
        """Bytes of the remembered frames and of those held back."""
        return _bytes([*self._memory, self._waiting])

    @property
    def overlap_frames(self) -> int:
        """Latent frames to encode again before one in mid-stream is exact."""
        reach, pictures = 0, 1
        for layer in self._tree.encoder:
            pictures *= layer.stride if _changes_time(layer) else 1
            reach += pictures if _is_memory_block(layer) else 0
        return -(-reach // FRAMES_PER_LATENT)

    def latent_frames(self, pictures: int) -> int:
        """How many latent frames come of so many frames, from the first to the last one."""
        return -(-pictures // FRAMES_PER_LATENT)

    @torch.no_grad()
    def feed(self, frames: Tensor) -> Tensor:
        """Encode what completes a latent."""
        expect(frames, "frames", 3)
        waiting = frames if self._waiting is None else torch.cat([self._waiting, frames])
        ready = len(waiting) - len(waiting) % FRAMES_PER_LATENT
        self._waiting = waiting[ready:].clone()
        if ready == 0:
            size = (side // self._form.spatial_factor for side in frames.shape[-2:])
            return torch.zeros(0, self._form.channels, *size, device=frames.device)
        x = F.pixel_unshuffle(waiting[:ready].to(self._dtype), self._tree.patch_size)
        z = _through(self._tree.encoder, x, self._memory).float()
        return normalise(z) if self._raw else z

    def drain(self) -> Tensor | None:
        """The last latent, completed by repeating the last frame."""
        repeated = completion(self._waiting)
        return None if repeated is None else self.feed(repeated)


def _through(layers: Iterable[Any], x: Tensor, memory: Memory) -> Tensor:
    """Frames x (t, c, h, w) through all layers at once; `memory` becomes that of the last one."""
    blocks, x = 0, by_pixel(x)
    for layer in layers:
        if not _is_memory_block(layer):
            x = by_pixel(layer(x))  # a layer that makes frames of channels loses the order
            continue
        before = memory[blocks]
        first = torch.zeros_like(x[:1]) if before is None else before
        memory[blocks] = x[-1:].clone()
        x = layer(x, torch.cat([first, x[:-1]]))
        blocks += 1
    return x


def _memory_blocks(layers: Iterable[Any]) -> list[Any]:
    return [layer for layer in layers if _is_memory_block(layer)]


def _is_memory_block(layer: Any) -> bool:
    return hasattr(layer, "skip")


def _changes_time(layer: Any) -> bool:
    return hasattr(layer, "stride") and hasattr(layer, "conv")


def _bytes(tensors: Iterable[Tensor | None]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)
