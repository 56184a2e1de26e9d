"""Bytes of FlashVSR beside its weights: what stays between passes, and what a pass takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...attention.lcsa.gathered import GATHERED_BYTES
from ..config import PATCH, DiTConfig
from ..vae.decoder_memory import MAPS_AT_ONCE
from ..vae.latent_format import FRAMES_PER_LATENT, WAN21
from .canvas import Canvas
from .passes import BEHIND, FIRST_FRAMES, FIRST_LATENTS, LATENTS, PAST_GROUPS
from .projector import PAST_FRAMES, PIXELS, ProjectorConfig

MAPS_OF_A_LAYER = 6  # of the tokens in a layer: queries, keys, values, blocks of each
BLOCKS_OF_A_WIDTH = 3


@dataclass(frozen=True, slots=True)
class PassMemory:
    """`state_bytes` between passes are exact, `working_bytes` of a pass an estimate."""

    state_bytes: int
    working_bytes: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the three networks, and bytes of a number in their computations."""

    dit: DiTConfig
    projector: ProjectorConfig
    widths: tuple[int, int, int, int]
    dtype: torch.dtype


def pass_memory(sizes: Sizes, canvas: Canvas) -> PassMemory:
    """The memory for pictures of this size."""
    pixels, item = canvas.full_width * canvas.full_height, sizes.dtype.itemsize
    tokens = pixels // (WAN21.spatial_factor * PATCH) ** 2  # of a latent frame
    layer = 2 * tokens * LATENTS * sizes.dit.dim * item  # keys and values of a group
    groups = PAST_GROUPS * layer * sizes.dit.num_layers
    past = sizes.projector.middle + 3 * PIXELS**2 if sizes.projector.causal else 0
    convolutions = PAST_FRAMES * tokens * past * item
    a, b, c, d = sizes.widths
    maps = BLOCKS_OF_A_WIDTH * (a + 4 * b + 16 * c) * pixels // WAN21.spatial_factor**2 * item
    frame = 3 * pixels * torch.float32.itemsize
    state = groups + convolutions + maps + BEHIND * frame
    attention = GATHERED_BYTES + MAPS_OF_A_LAYER * layer * FIRST_LATENTS // LATENTS
    feed_forward = FIRST_LATENTS * tokens * sizes.dit.ffn_dim * 2 * item
    decoding = MAPS_AT_ONCE * FRAMES_PER_LATENT * pixels * max(d, c) * item
    frames = MAPS_AT_ONCE * FIRST_FRAMES * frame
    return PassMemory(state, max(attention, feed_forward, decoding) + layer + frames)
