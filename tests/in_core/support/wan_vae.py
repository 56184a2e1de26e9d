"""Small Wan 2.1 VAEs of the host's own kind, with random weights."""

from __future__ import annotations

from typing import Any

import torch


def random_tree(core: Any, dim: int = 8) -> Any:
    """A Wan VAE of another width with random weights of a size that keeps values in range.

    `core` is the host's package, as the fixture of that name opened it on the CPU.
    """
    tree = core.ldm.wan.vae.WanVAE(dim=dim, z_dim=16, temperal_downsample=[False, True, True]).eval()
    seeded = torch.Generator().manual_seed(2)
    for name, parameter in tree.named_parameters():
        noise = torch.randn(parameter.shape, generator=seeded)
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = 1 + 0.1 * noise if "gamma" in name else noise / fan**0.5
    return tree.requires_grad_(False)
