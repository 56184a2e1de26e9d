"""The streaming VAE against the same VAE all at once."""

from __future__ import annotations

import torch

from ...model.vae.latent_format import frame_count
from ...model.vae.streaming import StreamingDecoder, StreamingEncoder
from ...model.vae.tiny import decode_all, encode_all
from .demo import demo_vae, random_latents
from .history import CHUNK
from .paired import Prepare

CASES = ("decode, streaming", "decode, all at once", "encode, streaming", "encode, all at once")


def vae_case(name: str, latent_frames: int) -> Prepare:
    """Prepare case `name` over `latent_frames` latent frames of the demo's size."""
    vae, latents = demo_vae(), random_latents(latent_frames)
    if name.startswith("encode"):
        pictures = torch.rand(
            frame_count(latent_frames), 3, 8 * latents.shape[-2], 8 * latents.shape[-1]
        )

    def decode_streaming() -> None:
        decoder = StreamingDecoder(vae)
        for first in range(0, len(latents), CHUNK):
            decoder.feed(latents[first : first + CHUNK])

    def encode_streaming() -> None:
        encoder = StreamingEncoder(vae)
        for first in range(0, len(pictures), 4 * CHUNK):
            encoder.feed(pictures[first : first + 4 * CHUNK])

    @torch.no_grad()
    def decode_whole() -> None:
        decode_all(vae, latents[None])

    @torch.no_grad()
    def encode_whole() -> None:
        encode_all(vae, pictures[None])

    runs = (decode_streaming, decode_whole, encode_streaming, encode_whole)
    return lambda: runs[CASES.index(name)]
