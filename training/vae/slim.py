"""A narrower decoder from a trained one: the channels that matter least are left out.

How much a channel matters is its mean size in real pictures, times the size of the weights that
read it. What is left is not yet a good decoder, but it learns on from far nearer to one than fresh
weights would.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...model.vae.memory_order import by_pixel
from ...model.vae.tiny import Conv, Grow, MemoryBlock, TinyVAE, TinyVAEConfig, run_layers

LEVELS = ((0, 4), (5, 9), (10, 13))
"""The decoder's levels, 1/8 first: the layer that begins each, and the one that ends it."""


@torch.no_grad()
def slimmed(vae: TinyVAE, widths: tuple[int, int, int], latents: Tensor) -> TinyVAE:
    """A VAE with the same encoder, whose decoder has the `widths` at 1/2, 1/4 and 1/8.

    `latents` (b, n, 16, h, w) are of real pictures.
    """
    slim = TinyVAE(TinyVAEConfig(vae.config.encoder_widths, widths))
    slim.encoder.load_state_dict(vae.encoder.state_dict())
    coming = torch.arange(vae.latent_channels)
    for (first, last), width in zip(LEVELS, reversed(widths), strict=True):
        channels = most_important(vae, last, width, latents)
        for old, new in zip(vae.decoder[first:last], slim.decoder[first:last], strict=True):
            match (old, new):
                case (MemoryBlock(), MemoryBlock()):
                    with_past = torch.cat([channels, channels + len(old.out.weight)])
                    copy_channels(old.join, new.join, channels, with_past)
                    copy_channels(old.middle, new.middle, channels, channels)
                    copy_channels(old.out, new.out, channels, channels)
                case (Conv(), Conv()):
                    copy_channels(old, new, channels, coming)
        match (vae.decoder[last], slim.decoder[last]):
            case (Grow() as old, Grow() as new):
                coming = most_important(vae, last + 1, width, latents)
                second = coming + len(old.split.weight) // 2  # of the second frame
                copy_channels(old.split, new.split, torch.cat([coming, second]), channels)
            case (Conv() as old, Conv() as new):
                copy_channels(old, new, torch.arange(len(old.weight)), channels)
    return slim


def copy_channels(old: nn.Conv2d, new: nn.Conv2d, outputs: Tensor, inputs: Tensor) -> None:
    """Copy the weights from some inputs to some outputs, in place."""
    new.weight.data.copy_(old.weight[outputs][:, inputs])
    assert old.bias is not None and new.bias is not None
    new.bias.data.copy_(old.bias[outputs])


def most_important(vae: TinyVAE, reader: int, count: int, latents: Tensor) -> Tensor:
    """The `count` channels, in order, that matter most to the decoder's layer number `reader`."""
    start = vae.start(vae.decoder)
    features, _ = run_layers(vae.decoder[:reader], by_pixel(vae.squash(latents)), start)
    layer = vae.decoder[reader]
    reading = layer.split if isinstance(layer, Grow) else layer
    assert isinstance(reading, nn.Conv2d)
    importance = features.abs().mean((0, 1, 3, 4)) * reading.weight.square().sum((0, 2, 3)).sqrt()
    return importance.topk(count).indices.sort().values
