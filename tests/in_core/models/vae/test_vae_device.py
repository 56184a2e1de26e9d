"""A VAE of the host's on another device: weights of its own, the same pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longtake.tests.in_core.support.wan_vae import random_tree
from longtake.tests.support.tiny_model import randomise

CPU = torch.device("cpu")


def wan(core: Any) -> Any:
    return core.sd.VAE(sd=dict(random_tree(core, 24).state_dict()), dtype=torch.bfloat16)


def tiny(core: Any, dtype: torch.dtype) -> Any:
    """The host takes float16 weights for taew's, others for lighttae's."""
    from comfy.taesd.taehv import TAEHV

    tree = TAEHV(16).requires_grad_(False)
    randomise(tree, 3)
    return core.sd.VAE(sd=dict(tree.to(dtype).state_dict()), dtype=torch.float32)


KINDS = {
    "wan": wan,
    "taew": lambda core: tiny(core, torch.float16),
    "lighttae": lambda core: tiny(core, torch.float32),
}


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_copy_decodes_the_same_and_shares_nothing(core: Any, kind: str) -> None:
    from longtake.nodes import host
    from longtake.nodes.frames.vae_device import streaming_vae_on
    from longtake.nodes.models.streaming_vae import streaming_vae

    vae = KINDS[kind](core)
    vae.patcher.load_device = torch.device("mps")  # not there, so nothing may be loaded to it
    here, there = streaming_vae(vae), streaming_vae_on(vae, CPU)
    assert there.patcher.load_device == there.device == CPU and there.tree is not here.tree
    assert streaming_vae_on(vae, CPU).tree is there.tree  # copied once
    host.claim([there.patcher], 0)
    latents = torch.randn(3, 16, 4, 6, generator=torch.Generator().manual_seed(1))
    ours = there.open_decoder().feed(latents)
    here.dtype, before = there.dtype, here.tree.to(there.dtype)
    theirs = here.open_decoder().feed(latents)
    assert ours.std() > 0.01 and torch.equal(ours, theirs)
    for weight in before.parameters():
        weight.zero_()
    assert torch.equal(there.open_decoder().feed(latents), ours)


def test_the_copy_of_another_accelerator_computes_in_the_same_dtype(core: Any) -> None:
    """On the meta device, which has shapes alone: no second accelerator is here."""
    from longtake.nodes import host

    vae = wan(core)
    copy = host.copy_vae(vae, torch.device("meta"))
    assert copy.vae_dtype == vae.vae_dtype == torch.bfloat16
    assert copy.patcher.load_device == copy.device == torch.device("meta")
    assert host.copy_vae(vae, CPU).vae_dtype == torch.float32
