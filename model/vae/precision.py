"""The tiny decoder in fewer bits than float32's, which some CPUs convolve in less time."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ...machine.products import computes_in_bfloat16, convolves_in_int8
from .int8.decoder import decoding_in_int8
from .int8.ranges import Ranges
from .tiny import TinyVAE


def fastest_decoding(vae: TinyVAE, ranges: Ranges | None, device: torch.device) -> TinyVAE:
    """The VAE that decodes fastest on a device: in 8-bit integers if the ranges of its features are
    given, else in bfloat16, or the given one where a device has instructions for neither.
    """
    if ranges is not None and convolves_in_int8(device):
        return decoding_in_int8(vae, ranges)
    return decoding_in(torch.bfloat16, vae) if computes_in_bfloat16(device) else vae


class To(nn.Module):
    """Goes on in another dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """The same values, rounded to the dtype."""
        return x.to(self.dtype)


def decoding_in(dtype: torch.dtype, vae: TinyVAE) -> TinyVAE:
    """A copy of a VAE that decodes in `dtype`; its last layer makes the pictures in float32.

    Without that exception the pictures themselves would have bfloat16's 8 bits.
    """
    copy = deepcopy(vae)
    *hidden, last = copy.decoder
    copy.decoder = nn.ModuleList([To(dtype), *hidden, To(torch.float32), last])
    for layer in hidden:
        layer.to(dtype)
    return copy
