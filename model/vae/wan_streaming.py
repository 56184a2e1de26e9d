"""Streaming over the module tree of a Wan 2.1 VAE, the official one or a narrower (LightVAE).

The tree's own layers do the work and keep what they need of the past in a list that they are
handed, one slot for each causal convolution (Wan-Video/Wan2.1 `wan/modules/vae.py`). Here that list
lives as long as the stream. Two things its authors never met are mended in `FeatureCache`: a call
with one frame would shorten the remembered past to one, and slots would keep whole activations
alive behind views of two frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..config import FRAMES_PER_LATENT
from .latent_format import WAN21, denormalise, latent_frame_count, normalise
from .memory_order import by_pixel_in_half
from .streaming import expect
from .wan_layers import CHANNELS, LayerStream
from .wan_structure import decoder_layers

PAST_FRAMES = 2
PAIR = 2  # frames of a call on the encoder, after the first


class FeatureCache(list[Any]):
    """The last two input frames of each causal convolution.

    `whole` keeps two frames even when a call brings one. The encoder is never called that way and
    uses separate slots for single frames.
    """

    def __init__(self, slots: int, *, whole: bool) -> None:
        super().__init__([None] * slots)
        self._whole = whole
        self._last: dict[int, Tensor] = {}  # layers empty their slot before they fill it again

    def __setitem__(self, slot: Any, value: Any) -> None:
        """Store a copy of the frames; a single new one goes behind the last of those before."""
        if isinstance(value, Tensor):
            before = self._last.get(slot)
            if self._whole and value.shape[2] < PAST_FRAMES and before is not None:
                value = torch.cat([before[:, :, -1:].to(value.device), value], 2)
            value = value.clone() if self._whole else by_pixel_in_half(value, CHANNELS).clone()
            if self._whole:
                self._last[slot] = value
        super().__setitem__(slot, value)

    @property
    def bytes(self) -> int:
        """Bytes of all remembered frames."""
        tensors = [slot for slot in self if isinstance(slot, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class TreeStream:
    """A stream through the tree of a decoder, from its start."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._cache = FeatureCache(len(convolutions(decoder)), whole=True)

    @property
    def state_bytes(self) -> int:
        """Bytes of the remembered features."""
        return self._cache.bytes

    def feed(self, z: Tensor, **options: Any) -> Tensor:
        """Pixels (1, p, n, h, w) of the next latents (1, c, f, h, w); the first comes alone.

        In PyTorch's order: the host's norms are slow in another one on CUDA.
        """
        out = self._decoder(z, feat_cache=self._cache, feat_idx=[0], **options)
        return out if isinstance(out, Tensor) else torch.cat(out, 2)  # parts, in newer cores


class WanStreamingDecoder:
    """Normalised latents (f, 16, h, w) to frames (n, 3, 8h, 8w) in [0, 1], float32."""

    form = WAN21

    def __init__(self, tree: Any, dtype: torch.dtype) -> None:
        self._tree, self._dtype = tree, dtype
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next latent is a first one."""
        decoder = self._tree.decoder
        layers = decoder_layers(decoder)
        self._stream = TreeStream(decoder) if layers is None else LayerStream(layers)
        self._started = False

    @property
    def state_bytes(self) -> int:
        """Bytes of the remembered features."""
        return self._stream.state_bytes

    @torch.no_grad()
    def feed(self, latents: Tensor) -> Tensor:
        """Decode the next latents; the very first one goes alone and gives one frame."""
        expect(latents, "latents", self.form.channels)
        size = (self.form.spatial_factor * side for side in latents.shape[-2:])
        frames = [torch.zeros(0, 3, *size, device=latents.device)]
        first = 0 if self._started else 1
        for part in (latents[:first], latents[first:]):
            if len(part):
                frames.append(self._decode(part))
                self._started = True
        return torch.cat(frames)

    def _decode(self, latents: Tensor) -> Tensor:
        raw = denormalise(latents).to(self._dtype)
        z = self._tree.conv2(raw.transpose(0, 1).unsqueeze(0))  # (1, c, f, h, w)
        return ((self._pixels(z)[0].transpose(0, 1).float() + 1) / 2).clamp(0, 1)

    def _pixels(self, z: Tensor) -> Tensor:
        """Pictures (1, 3, n, H, W) in [-1, 1] of the next latents (1, c, f, h, w)."""
        return self._stream.feed(z)

    def drain(self) -> Tensor | None:
        """Frames still held back: none, a causal decoder keeps nothing."""
        return None

    @property
    def overlap_frames(self) -> int:
        """Latent frames to decode again before a frame in mid-stream is exact."""
        decoder, rate, reach = self._tree.decoder, 1, 0.0
        for layer in (decoder.conv1, *decoder.middle, *_flat(decoder.upsamples), *decoder.head):
            reach += sum(c.kernel_size[0] - 1 for c in convolutions(layer)) / rate
            rate *= 2 if hasattr(layer, "time_conv") else 1
        return (
            int(-(-reach // 1)) + 1
        )  # and one, since a stream's first latent is unlike the others


class WanStreamingEncoder:
    """Frames (n, 3, 8h, 8w) in [0, 1] to normalised latents (f, 16, h, w), float32.

    The tree is called as it calls itself on a whole video: the first frame, then pairs, and told
    when a pair is the last; so one pair is held back.
    """

    form = WAN21

    def __init__(self, tree: Any, dtype: torch.dtype) -> None:
        self._tree, self._dtype = tree, dtype
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next frame is a first one."""
        self._cache = FeatureCache(self._slots(), whole=False)
        self._waiting: Tensor | None = None
        self._fed = 0

    @property
    def state_bytes(self) -> int:
        """Bytes of the remembered features and of the frames held back."""
        waiting_bytes = (
            0 if self._waiting is None else self._waiting.numel() * self._waiting.element_size()
        )
        return self._cache.bytes + waiting_bytes

    @property
    def overlap_frames(self) -> int:
        """Latent frames to encode again before one in mid-stream is exact."""
        encoder, pictures, reach = self._tree.encoder, 1, 0
        for layer in (encoder.conv1, *_flat(encoder.downsamples), *encoder.middle, *encoder.head):
            reach += pictures * sum(c.kernel_size[0] - 1 for c in convolutions(layer))
            pictures *= 2 if hasattr(layer, "time_conv") else 1
        return -(-reach // FRAMES_PER_LATENT) + 1  # and one: the first is unlike the others

    def latent_frames(self, pictures: int) -> int:
        """How many latent frames come of so many frames, from the first to the last one."""
        return latent_frame_count(pictures)

    @torch.no_grad()
    def feed(self, frames: Tensor) -> Tensor:
        """Encode what is known not to be the end; latents come two by two."""
        expect(frames, "frames", 3)
        waiting = frames if self._waiting is None else torch.cat([self._waiting, frames])
        latents = [self._none(frames)]
        if self._fed == 0 and len(waiting):
            latents.append(self._encode(waiting[:1]))
            waiting = waiting[1:]
        while len(waiting) > PAIR:
            latents.append(self._encode(waiting[:PAIR]))
            waiting = waiting[PAIR:]
        self._waiting = waiting.clone()
        return torch.cat(latents)

    @torch.no_grad()
    def drain(self) -> Tensor | None:
        """The last latents, completed by repeating the last frame."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or len(waiting) == 0:
            return None
        missing = -(self._fed + len(waiting) - 1) % FRAMES_PER_LATENT
        pairs = torch.cat([waiting, waiting[-1:].expand(missing, -1, -1, -1)]).split(PAIR)
        last = len(pairs) - 1
        return torch.cat([self._encode(pair, final=i == last) for i, pair in enumerate(pairs)])

    def _encode(self, frames: Tensor, *, final: bool = False) -> Tensor:
        self._fed += len(frames)
        x = (2 * frames - 1).to(self._dtype).transpose(0, 1).unsqueeze(0)  # (1, 3, n, H, W)
        x = by_pixel_in_half(x, CHANNELS)
        out = self._tree.encoder(x, feat_cache=self._cache, feat_idx=[0], final=final)
        if out is None:  # waiting for the second of two latents
            return self._none(frames)
        mean = self._tree.conv1(out).chunk(2, 1)[0]
        return normalise(mean[0].transpose(0, 1).float())

    def _slots(self) -> int:
        """One for each causal convolution, and one more where frames are merged."""
        encoder = self._tree.encoder
        strided = [layer for layer in encoder.downsamples if hasattr(layer, "time_conv")]
        return len(convolutions(encoder)) + len(strided)

    def _none(self, frames: Tensor) -> Tensor:
        size = (side // self.form.spatial_factor for side in frames.shape[-2:])
        return torch.zeros(0, self.form.channels, *size, device=frames.device)


def _flat(layers: Any) -> list[Any]:
    """The layers of a decoder or encoder in order, those within blocks of several (Wan 2.2) one by
    one.
    """
    return [
        part
        for layer in layers
        for part in getattr(layer, "upsamples", getattr(layer, "downsamples", [layer]))
    ]


def convolutions(module: Any) -> list[Any]:
    """The causal convolutions of a tree, in order: those that look back in time or could."""
    return [m for m in module.modules() if len(getattr(m, "kernel_size", ())) == 3]
