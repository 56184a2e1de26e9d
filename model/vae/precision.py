"""The tiny decoder in bfloat16, on CPUs that convolve in it nearly twice as fast as in float32."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from .tiny import TinyVAE

INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


class To(nn.Module):
    """Goes on in another dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """The same values, rounded to the dtype."""
        return x.to(self.dtype)


def convolves_in_bfloat16(device: torch.device) -> bool:
    """Whether a device is a CPU with instructions for bfloat16; older torch cannot tell: False."""
    tell = getattr(torch.cpu, "get_capabilities", None)
    if device.type != "cpu" or tell is None:
        return False
    known = tell()
    return any(known.get(name, False) for name in INSTRUCTIONS)


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
