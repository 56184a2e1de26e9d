"""A VAE on another device than the one on which it was loaded."""

from __future__ import annotations

from typing import Any

import torch

from .. import host
from ..models.demo_objects import DemoVAE
from ..models.streaming_vae import RAW_LATENTS, StreamingVAE, TinyVAE, streaming_vae

COPIES = "longtake_vae_on"  # attached to the VAE's patcher, so that they go when the VAE goes


def streaming_vae_on(vae: Any, device: torch.device | None, tile_pixels: int = 0) -> StreamingVAE:
    """Wrap a VAE for streaming on `device`, or where it is; BadInput if it cannot.

    On another device it has weights of its own: other nodes may use `vae` at the same time.
    """
    here = streaming_vae(vae, tile_pixels)
    if device is None or host.same_device(device, here.patcher.load_device):
        return here
    return streaming_vae(_copy_on(vae, device), tile_pixels)


def _copy_on(vae: Any, device: torch.device) -> Any:
    """The VAE's copy for `device`, made once."""
    key = f"{COPIES} {device}"
    copy = host.get_attachment(vae.patcher, key)
    if copy is None:
        copy = vae.copy_on(device) if isinstance(vae, DemoVAE) else host.copy_vae(vae, device)
        here = streaming_vae(vae)
        if isinstance(here, TinyVAE):  # the host guesses by the weights' dtype, which has changed
            setattr(copy, RAW_LATENTS, here.raw)
        host.attach(vae.patcher, key, copy)
    return copy
