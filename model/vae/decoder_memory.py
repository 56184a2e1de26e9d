"""What a streaming decoder takes beside its weights: what it keeps, and a chunk on top of that."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from ..memory import META, peak_bytes
from .latent_format import LATENT_CHANNELS
from .streaming import StreamingDecoder
from .tiny import TinyVAE


@dataclass(frozen=True, slots=True)
class DecoderMemory:
    """Bytes from chunk to chunk, and at most while one is decoded, its frames included."""

    state_bytes: int
    working_bytes: int


def rehearsed(vae: TinyVAE, frames: int, rows: int, columns: int) -> DecoderMemory:
    """Of chunks of `frames` latent frames, by decoding two without numbers.

    A convolution may take another copy of its input for itself, which is not seen.
    """
    decoder = StreamingDecoder(copy.deepcopy(vae).to(META))
    dtype = next(vae.parameters()).dtype
    latents = torch.empty(frames, LATENT_CHANNELS, rows, columns, device=META, dtype=dtype)
    decoder.feed(latents)
    state = decoder.state_bytes
    return DecoderMemory(state, peak_bytes(lambda: decoder.feed(latents)))
