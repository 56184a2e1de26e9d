"""The ways in which a rung's decoder computes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...model.preset import DEMO_FOLDER, RANGES_NAME
from ...model.vae.int8.decoder import decoding_in_int8
from ...model.vae.int8.ranges import load_ranges
from ...model.vae.precision import decoding_in
from ...model.vae.tiny import TinyVAE

Decoding = Callable[[TinyVAE], TinyVAE]
"""Makes of a VAE, as it lies in its file, the one that decodes."""


def in_float32(vae: TinyVAE) -> TinyVAE:
    """The VAE as it lies in its file."""
    return vae


def in_bfloat16(vae: TinyVAE) -> TinyVAE:
    """A copy whose decoder computes in bfloat16."""
    return decoding_in(torch.bfloat16, vae)


def in_8_bits(vae: TinyVAE) -> TinyVAE:
    """A copy of the demo's VAE whose decoder computes in 8-bit integers."""
    return decoding_in_int8(vae, load_ranges(DEMO_FOLDER / RANGES_NAME, vae))
