"""A Wan VAE's decoder as layers of ours around the modules of the host's tree.

Convolutions and attention are the host's, and so are casts, offloads and hooks. Between them each
layer here goes over memory less often than the host's layer. A norm is one kernel on NVIDIA's GPUs,
activations and sums happen in place, and features keep the memory order of the device. Structure:
Wan-Video/Wan2.1 `wan/modules/vae.py`, Wan-Video/Wan2.2 `wan/modules/vae2_2.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .memory_order import by_pixel, is_by_pixel

CHANNELS = 1  # the axis, of features (b, c, t, h, w) and of frames (n, c, h, w)
PAIR = 2  # frames at a time behind a layer that doubles them, as in the host's decoder
PAST_FRAMES = 2
LEAST_LENGTH = 1e-12  # of a pixel's channels, by which they are divided
FUSED_NORM = "_fused_rms_norm"

Memory = list[Tensor]
"""The last two input frames of each causal convolution, in the order of the layers.

It is empty before the first latent. A walk takes it apart, so that no two memories exist at once.
"""


class Layer(Protocol):
    """A part of the decoder.

    It takes what it remembers from the front of `before` and appends what comes after to `after`.
    """

    @property
    def doubles_frames(self) -> bool:
        """Whether two frames come of each, after the first latent."""

    def __call__(self, x: Tensor, before: Memory, after: Memory) -> Tensor:
        """Features (b, c, t, h, w) of the next frames."""


@dataclass(frozen=True, slots=True)
class Norm:
    """The root mean square of a pixel's channels becomes `gamma`."""

    module: Any

    def __call__(self, x: Tensor) -> Tensor:
        """Frames or features in memory of their own."""
        gamma = self.module.gamma.flatten()
        if is_by_pixel(x, CHANNELS) and fuses_norms(x):
            least = LEAST_LENGTH**2 / len(gamma)
            pixels = x.movedim(CHANNELS, -1)
            return F.rms_norm(pixels, gamma.shape, gamma.to(x), least).movedim(-1, CHANNELS)
        factor = (gamma.float() * self.module.scale).to(x)
        least = max(LEAST_LENGTH, torch.finfo(x.dtype).tiny)  # 0 would make NaN of a zero pixel
        sides = [1] * (x.ndim - CHANNELS - 1)
        return F.normalize(x, dim=CHANNELS, eps=least).mul_(factor.view(-1, *sides))

    def activate(self, x: Tensor) -> Tensor:
        """The norm of x with SiLU."""
        return F.silu(self(x), inplace=True)


@dataclass(frozen=True, slots=True)
class Causal:
    """A convolution that looks two frames back."""

    module: Any
    doubles_frames = False

    def __call__(self, x: Tensor, before: Memory, after: Memory) -> Tensor:
        past = before.pop(0) if before else None
        x = by_pixel(x, CHANNELS)
        y = by_pixel(self.module(x, past), CHANNELS)
        after.append(last_frames(x, past))
        return y


@dataclass(frozen=True, slots=True)
class Residual:
    """Two norms with activations and convolutions beside a shortcut."""

    norms: tuple[Norm, Norm]
    convolutions: tuple[Causal, Causal]
    shortcut: Any
    doubles_frames = False

    def __call__(self, x: Tensor, before: Memory, after: Memory) -> Tensor:
        y = self.convolutions[0](self.norms[0].activate(x), before, after)
        y = self.norms[1].activate(y)
        y = self.convolutions[1](y, before, after)
        return y.add_(self.shortcut(x))


@dataclass(frozen=True, slots=True)
class Attention:
    """Every pixel of a frame looks at all of them."""

    norm: Norm
    module: Any
    doubles_frames = False

    def __call__(self, x: Tensor, before: Memory, after: Memory) -> Tensor:
        frames = frames_of(x)
        y: Tensor = self.module.proj(self._attended(frames))
        return features_of(y.add_(frames), len(x))

    def _attended(self, frames: Tensor) -> Tensor:
        query, key, value = self.module.to_qkv(by_pixel(self.norm(frames))).chunk(3, CHANNELS)
        attended: Tensor = self.module.optimized_attention(query, key, value)
        return attended


@dataclass(frozen=True, slots=True)
class Upsample:
    """Twice as many rows and columns, and frames if there is a `time_conv`."""

    module: Any
    time: Causal | None

    @property
    def doubles_frames(self) -> bool:
        return self.time is not None

    def __call__(self, x: Tensor, before: Memory, after: Memory) -> Tensor:
        if self.time is not None:
            x = self._in_time(self.time, x, before, after)
        return features_of(self.module.resample(frames_of(x)), len(x))

    def _in_time(self, time: Causal, x: Tensor, before: Memory, after: Memory) -> Tensor:
        if not before:  # the first latent is one frame, which the next ones do not see
            after.append(last_frames(torch.zeros_like(x), None))
            return x
        y = time(x, before, after)
        if is_by_pixel(y, CHANNELS):
            pixels = rearrange(y.movedim(CHANNELS, -1), "b t h w (k c) -> b (t k) h w c", k=PAIR)
            return pixels.movedim(-1, CHANNELS)
        return rearrange(y, "b (k c) t h w -> b c (t k) h w", k=PAIR)


@dataclass(frozen=True, slots=True)
class Block:
    """Layers of Wan 2.2 beside a shortcut that repeats pixels, or beside none."""

    layers: tuple[Layer, ...]
    shortcut: Any

    @property
    def doubles_frames(self) -> bool:
        return any(layer.doubles_frames for layer in self.layers)

    def __call__(self, x: Tensor, before: Memory, after: Memory) -> Tensor:
        y = x
        for layer in self.layers:
            y = layer(y, before, after)
        return y if self.shortcut is None else y.add_(self._repeated(x)[:, :, -y.shape[2] :])

    def _repeated(self, x: Tensor) -> Tensor:
        """Channels are repeated and dealt out to frames, rows and columns."""
        to = self.shortcut
        sizes = {"i": to.factor_t, "j": to.factor_s, "k": to.factor_s}
        if not is_by_pixel(x, CHANNELS):
            channels = x.repeat_interleave(to.repeats, CHANNELS)
            return rearrange(channels, "b (c i j k) t h w -> b c (t i) (h j) (w k)", **sizes)
        channels = x.movedim(CHANNELS, -1).repeat_interleave(to.repeats, -1)
        pixels = rearrange(channels, "b t h w (c i j k) -> b (t i) (h j) (w k) c", **sizes)
        return pixels.movedim(-1, CHANNELS)


@dataclass(frozen=True, slots=True)
class Head:
    """A norm and a convolution, which makes pixels of features."""

    norm: Norm
    convolution: Causal
    doubles_frames = False

    def __call__(self, x: Tensor, before: Memory, after: Memory) -> Tensor:
        return self.convolution(self.norm.activate(x), before, after)


class LayerStream:
    """A stream through layers, from its start."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._memory: Memory = []

    @property
    def state_bytes(self) -> int:
        """Bytes of the remembered frames."""
        return sum(frames.nbytes for frames in self._memory)

    def feed(self, z: Tensor, **_: Any) -> Tensor:
        """Pixels (1, p, n, h, w) of the next latents (1, c, f, h, w); the first comes alone."""
        before, self._memory = self._memory, []
        return run_layers(self._layers, z, before, self._memory)


def run_layers(layers: Sequence[Layer], x: Tensor, before: Memory, after: Memory) -> Tensor:
    """Features after `layers`; behind a layer that doubles frames they go two at a time."""
    for index, layer in enumerate(layers, 1):
        x = layer(x, before, after)
        if layer.doubles_frames and x.shape[2] > PAIR:
            return _by_pairs(layers[index:], x, before, after)
    return x


def _by_pairs(layers: Sequence[Layer], x: Tensor, before: Memory, after: Memory) -> Tensor:
    parts = []
    for pair in x.split(PAIR, 2):
        later: Memory = []
        parts.append(run_layers(layers, pair, before, later))
        before = later
    after += before
    return torch.cat(parts, 2)


def last_frames(x: Tensor, past: Tensor | None) -> Tensor:
    """The last two frames up to x; frames before the first are zero."""
    if x.shape[2] >= PAST_FRAMES:
        return x[:, :, -PAST_FRAMES:].clone()
    frame_before = torch.zeros_like(x) if past is None else past[:, :, -1:]
    return torch.cat([frame_before, x], 2)


def frames_of(x: Tensor) -> Tensor:
    """Features (b, c, t, h, w) as frames (b t, c, h, w)."""
    return by_pixel(x.transpose(1, 2).flatten(0, 1), CHANNELS)


def features_of(frames: Tensor, batch: int) -> Tensor:
    """Frames (b t, c, h, w) as features (b, c, t, h, w)."""
    return by_pixel(frames.unflatten(0, (batch, -1)).transpose(1, 2), CHANNELS)


def fuses_norms(x: Tensor) -> bool:
    """Whether this PyTorch norms x, which lies by pixel, in one kernel."""
    if not x.is_cuda or not hasattr(torch.ops.aten, FUSED_NORM):
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{FUSED_NORM}", "CUDA")
