"""Memory of a streaming decoder beside its weights."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import FRAMES_PER_LATENT
from .latent_format import SPATIAL_FACTOR
from .tiny import Growing, Remembering, TinyVAE

MAPS_AT_ONCE = 4  # in a memory block: its input, that joined with the past (two), what comes of it

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class DecoderMemory:
    """Bytes kept between chunks, and peak bytes while one is decoded, with its frames.

    Not in it: what a CPU's kernels take for their own copies. With AMX, in 8-bit integers, that is
    150 kB a thread at 96x64, and 600 kB at 832x480.
    """

    state_bytes: int
    working_bytes: int


def tiny_decoder_memory(vae: TinyVAE, frames: int, rows: int, columns: int) -> DecoderMemory:
    """Memory for chunks of `frames` latent frames of that size.

    This is arithmetic. A rehearsal would cost a second before the first frame, and would miss the
    copy of its weights that a convolution makes on a CPU, in an order of its own.
    """
    values = 3 * FRAMES_PER_LATENT * frames * rows * columns * SPATIAL_FACTOR**2
    pictures = 2 * values * FLOAT_BYTES  # as patches, and put together
    state, working, scale = 0, pictures, 1
    for layer in vae.decoder:
        if isinstance(layer, Growing):
            scale *= 2
        elif isinstance(layer, Remembering):
            one_frame = layer.pixel_bytes * rows * columns * scale**2
            state += one_frame
            working = max(working, MAPS_AT_ONCE * frames * scale * one_frame + layer.copied_bytes)
    return DecoderMemory(state, working + state)  # the next state is made beside the last one
