"""Small Wan 2.1 VAEs of the host's own kind, with random weights."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from longtake.machine.products import convolves_slowly

needs_bfloat16 = pytest.mark.skipif(
    convolves_slowly(torch.device("cpu"), torch.bfloat16),
    reason="on this CPU torch's own convolutions take over in bfloat16, with other memory",
)


def random_tree(core: Any, dim: int = 8) -> Any:
    """A Wan VAE of another width with random weights of a size that keeps values in range.

    `core` is the host's package, as the fixture of that name opened it on the CPU.
    """
    kind = core.ldm.wan.vae.WanVAE
    return randomised(kind(dim=dim, z_dim=16, temperal_downsample=[False, True, True]))


def random_wan22_tree(core: Any) -> Any:
    """A Wan 2.2 VAE, 16 times narrower; `core` as above."""
    kind = importlib.import_module(f"{core.__name__}.ldm.wan.vae2_2").WanVAE
    sizes = {"dim": 10, "dec_dim": 16, "z_dim": 48}
    return randomised(kind(**sizes, temperal_downsample=[False, True, True]))


def randomised(tree: Any) -> Any:
    """The tree with random weights of a size that keeps values in range."""
    seeded = torch.Generator().manual_seed(2)
    for name, parameter in tree.named_parameters():
        noise = torch.randn(parameter.shape, generator=seeded)
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = 1 + 0.1 * noise if "gamma" in name else noise / fan**0.5
    return tree.eval().requires_grad_(False)
