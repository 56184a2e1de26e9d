"""Small random VAEs: ours, and as ComfyUI holds them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.tiny_model import randomise


def make_vae() -> TinyVAE:
    """A small random VAE whose pictures use the range they have."""
    vae = TinyVAE(TinyVAEConfig((4, 6, 8), (5, 7, 9)))
    randomise(vae, 7)
    return vae.eval().requires_grad_(False)


VAE = make_vae()
CPU = torch.device("cpu")


def host_vae(tree: Any, channels: int) -> Any:
    """What nodes use of the host's VAE, around a module tree."""
    patcher = SimpleNamespace(
        load_device=CPU, partially_load=lambda device: 0, model=tree, patches={}
    )
    return SimpleNamespace(
        first_stage_model=tree, latent_channels=channels, device=CPU, vae_dtype=torch.float32,
        patcher=patcher,
    )  # fmt: skip


def wan22() -> tuple[Any, Any]:
    """A small random Wan 2.2 VAE: diffusers' own, and as the host would have it."""
    from longtake.tests.support.model import diffusers_models  # skips the test without diffusers

    theirs = diffusers_models.vae("Wan 2.2")
    tree = diffusers_models.tree(theirs)
    decoder = tree.decoder
    decoder.conv1, decoder.middle, decoder.upsamples = decoder.conv_in, [], decoder.up_blocks
    decoder.head = []
    return theirs, host_vae(tree, 48)
