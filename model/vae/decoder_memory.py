"""Memory of a streaming decoder beside its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .tiny import Grow, MemoryBlock, TinyVAE

MAPS_AT_ONCE = 5  # in a memory block: its input, the past, both joined (two) and what comes of it
COPIED_ON_CPU = 2  # oneDNN's convolution copies its input, those two, into a layout of its own


@dataclass(frozen=True, slots=True)
class DecoderMemory:
    """Bytes kept between chunks, and peak bytes while one is decoded, with its frames."""

    state_bytes: int
    working_bytes: int


def tiny_decoder_memory(
    vae: TinyVAE, frames: int, rows: int, columns: int, device: torch.device
) -> DecoderMemory:
    """Memory for chunks of `frames` latent frames of that size on `device`.

    This is arithmetic. A rehearsal would cost a second before the first frame, and would miss the
    workspace of convolutions.
    """
    state, working, scale = 0, 0, 1
    maps = MAPS_AT_ONCE + (COPIED_ON_CPU if device.type == "cpu" else 0)
    for layer in vae.decoder:
        if isinstance(layer, Grow):
            scale *= 2
        elif isinstance(layer, MemoryBlock):
            weight = layer.out.weight
            one_frame = len(weight) * rows * columns * scale**2 * weight.element_size()
            state += one_frame
            working = max(working, maps * frames * scale * one_frame)
    return DecoderMemory(state, working + state)  # the next state is made beside the last one
