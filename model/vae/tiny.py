"""A tiny causal video VAE: 2-D convolutions plus "memory" blocks that see the previous frame's
feature.

The layout follows TAEHV (madebyollin/taehv, MIT): spatial 8x8, temporal 4x, one remembered feature
map per memory block. Parallel and streaming use are the same function, so they agree by
construction. Frames follow Wan's 1 + 4k convention: the first latent stands for one frame, encoded
as four copies and decoded with the first three dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import FRAMES_PER_LATENT
from .latent_format import LATENT_CHANNELS
from .memory_order import by_pixel, doubled, with_frame_before

ReLU = partial(nn.ReLU, inplace=True)  # nothing else needs what a convolution returns

Memory = list[Tensor | None]
"""One remembered input frame (b, c, h, w) per memory block, None before the first frame."""


@dataclass(frozen=True, slots=True)
class TinyVAEConfig:
    """Channel widths at 1/2 (encoder only), 1/4 and 1/8 resolution."""

    encoder_widths: tuple[int, int, int] = (24, 48, 96)
    decoder_widths: tuple[int, int, int] = (40, 64, 128)


class Conv(nn.Conv2d):
    """A 3x3 convolution on every frame of (b, t, c, h, w); `stride` 2 halves the picture."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])


class Remembering(nn.Module):
    """A layer that sees each frame (b, t, c, h, w) and the input one frame before."""

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the features of one pixel, of which it remembers a frame."""
        raise NotImplementedError

    @property
    def copied_bytes(self) -> int:
        """Bytes that a CPU's convolution copies of the weights."""
        raise NotImplementedError


class MemoryBlock(Remembering):
    """A residual block on each frame joined with the previous frame's input to the same block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.join = Conv(2 * width, width)
        self.middle = Conv(width, width)
        self.out = Conv(width, width)

    def forward(self, x: Tensor, past: Tensor | None) -> Tensor:
        """x (b, t, c, h, w); past (b, c, h, w) or None at the start, where the past is zero."""
        first = torch.zeros_like(x[:, :1]) if past is None else past.unsqueeze(1)
        y = self.join(with_frame_before(x, first)).relu_()
        y = self.out(self.middle(y).relu_())
        return y.add_(x).relu_()  # type: ignore[no-any-return]

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the features of one pixel."""
        return len(self.out.weight) * self.out.weight.element_size()

    @property
    def copied_bytes(self) -> int:
        """Bytes that a CPU's convolution copies of the weights."""
        return self.join.weight.nbytes


class Pool(nn.Module):
    """Merges two frames into one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        pairs = rearrange(x, "b (t k) c h w -> (b t) (k c) h w", k=2)
        y: Tensor = self.mix(pairs)
        return rearrange(y, "(b t) c h w -> b t c h w", b=len(x))


class Growing(nn.Module):
    """Turns one frame into `frames`, each twice as large.

    `split` makes of frames (n, c, h, w) those with all new channels.
    """

    split: nn.Module

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.split(x.flatten(0, 1))
        y = doubled(y.unflatten(1, (self.frames, -1)))
        return rearrange(y, "(b t) c h w -> b t c h w", b=len(x))


class Grow(Growing):
    """Turns one frame into `frames`, each twice as large, by a convolution of single pixels."""

    def __init__(self, width: int, *, frames: int = 2, bias: bool = True) -> None:
        super().__init__(frames)
        self.split: nn.Conv2d = nn.Conv2d(width, frames * width, 1, bias=bias)


class CausalDecoder(nn.Module):
    """Layers `decoder` from latents to frames in patches of `patch` x `patch` pixels.

    Latents are normalised, frames are RGB around [0, 1], unclamped.
    """

    config: Any  # all that its layers need to be made again, a dataclass
    decoder: nn.ModuleList
    patch = 2
    latent_channels = LATENT_CHANNELS
    raw = False  # whether the layers themselves want latents that are not normalised

    def decode_groups(self, latents: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Latents (b, n, c, h, w) to frames (b, 4n, 3, H, W), and the memory after them."""
        features, memory = run_layers(self.decoder, by_pixel(self.squash(latents)), memory)
        return F.pixel_shuffle(features, self.patch), memory

    def memory_of(self, latents: Tensor) -> Memory:
        """The memory that `decode_groups` leaves of latents (b, n, c, h, w), n > 0, which begin a
        video or are as many as `decoder_reach`; no layer makes more than that takes.
        """
        x = self.squash(latents)
        memory: Memory = []
        for layer, frames in zip(self.decoder, self._looked_at, strict=False):
            x, after = run_layers([layer], x[:, -frames:], [None])
            memory += after
        return memory

    def squash(self, latents: Tensor) -> Tensor:
        """As the layers want them: an outlier latent must not blow up a whole picture."""
        return torch.tanh(latents / 3) * 3

    @property
    def decoder_reach(self) -> int:
        """How many earlier latents a decoded frame can depend on.

        Every memory block looks one of its frames back.
        """
        return self._looked_at[0]

    @property
    def _looked_at(self) -> list[int]:
        """How many of its last frames each layer needs for the memory, to the last memory block."""
        counts: list[int] = []
        for layer in reversed(self.decoder):
            frames = counts[0] if counts else 0
            if isinstance(layer, Remembering):
                frames += 1
            if isinstance(layer, Growing):
                frames = math.ceil(frames / layer.frames)
            if frames:
                counts.insert(0, frames)
        return counts

    def start(self, layers: nn.ModuleList) -> Memory:
        """An empty memory for `layers` (such as `self.decoder`)."""
        return [None for layer in layers if isinstance(layer, Remembering)]


class TinyVAE(CausalDecoder):
    """The demo's VAE: a causal encoder and decoder."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.config = config
        e, d = config.encoder_widths, config.decoder_widths
        self.encoder = nn.ModuleList([
            Conv(12, e[0]), ReLU(),
            Conv(e[0], e[1], stride=2), ReLU(), Pool(e[1]), MemoryBlock(e[1]),
            Conv(e[1], e[2], stride=2), ReLU(), Pool(e[2]), MemoryBlock(e[2]), MemoryBlock(e[2]),
            Conv(e[2], LATENT_CHANNELS),
        ])  # fmt: skip
        self.decoder = nn.ModuleList([
            Conv(LATENT_CHANNELS, d[2]), ReLU(),
            MemoryBlock(d[2]), MemoryBlock(d[2]), Grow(d[2]),
            Conv(d[2], d[1]), ReLU(), MemoryBlock(d[1]), MemoryBlock(d[1]), Grow(d[1]),
            Conv(d[1], d[0]), ReLU(), MemoryBlock(d[0]), Conv(d[0], 12),
        ])  # fmt: skip

    def encode_groups(self, frames: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Frames (b, 4n, 3, H, W) to latents (b, n, 16, H/8, W/8) and the memory after them."""
        return run_layers(self.encoder, F.pixel_unshuffle(frames, 2), memory)

    @property
    def encoder_reach(self) -> int:
        """How many earlier latents' pictures an encoded latent can depend on, and one, since a
        video's first latent is of one picture.
        """
        reach, pictures = 0, 1
        for layer in self.encoder:
            pictures *= 2 if isinstance(layer, Pool) else 1
            reach += pictures if isinstance(layer, Remembering) else 0
        return math.ceil(reach / FRAMES_PER_LATENT) + 1


def encode_all(vae: TinyVAE, frames: Tensor) -> Tensor:
    """Frames (b, 1 + 4k, 3, H, W) in [0, 1] to normalised latents (b, 1 + k, 16, H/8, W/8), all at
    once.
    """
    lead = frames[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1, -1, -1)
    return vae.encode_groups(torch.cat([lead, frames], 1), vae.start(vae.encoder))[0]


def decode_all(vae: TinyVAE, latents: Tensor) -> Tensor:
    """Normalised latents (b, 1 + k, 16, h, w) to frames (b, 1 + 4k, 3, 8h, 8w), unclamped, all at
    once.
    """
    return vae.decode_groups(latents, vae.start(vae.decoder))[0][:, FRAMES_PER_LATENT - 1 :]


def run_layers(layers: Iterable[nn.Module], x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """Features (b, t, c, h, w) after `layers`, and the memory that their memory blocks leave."""
    pasts: Iterator[Tensor | None] = iter(memory)
    after: Memory = []
    for layer in layers:
        if isinstance(layer, Remembering):
            past = next(pasts)
            after.append(x[:, -1].clone())
            x = layer(x, past)
        else:
            x = layer(x)
    return x, after
