"""A tiny VAE that re-encodes the first frame, and the same over the whole video."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.model.vae.streaming import StreamingDecoder, StreamingEncoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig, decode_all, encode_all
from longtake.samplers.conditioning.first_frame import ReencodedFirstFrame
from longtake.tests.support.tiny_model import TINY

VAE = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4))).eval().requires_grad_(False)


def widen(latents: Tensor) -> Tensor:
    """The tiny model's latents (f, 4, h, w) as a VAE's."""
    return latents.repeat(1, 4, 1, 1)


class Decoder(StreamingDecoder):
    def feed(self, latents: Tensor) -> Tensor:
        return super().feed(widen(latents))


class Encoder(StreamingEncoder):
    def feed(self, frames: Tensor) -> Tensor:
        return super().feed(frames)[:, : TINY.out_channels]


class Codec:
    """The VAE as nodes hand it over."""

    device = torch.device("cpu")

    def open_decoder(self) -> StreamingDecoder:
        return Decoder(VAE)

    def open_encoder(self) -> StreamingEncoder:
        return Encoder(VAE)


AGAIN = ReencodedFirstFrame(Codec(), "tiny")


def as_a_first_one(history: Tensor) -> Tensor:
    """By the whole video: its last picture, as the only one of another video."""
    pictures = decode_all(VAE, widen(history)[None]).clamp(0, 1)
    return encode_all(VAE, pictures[:, -1:])[0, 0, : TINY.out_channels]
