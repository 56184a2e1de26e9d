"""A decoder made narrower loses the channels that matter least, and its encoder stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from longtake.model.checkpoint import load_tiny_vae
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig, decode_all
from longtake.tests.support.tiny_model import randn, randomise
from longtake.training.vae.refine import VAERefinement, refine, resized
from longtake.training.vae.slim import LEVELS, slimmed
from longtake.training.world.picture_pool import PictureSpec

NARROW = (3, 4, 5)
LATENTS = randn(2, 3, 16, 2, 3)


@pytest.fixture(scope="module")
def vae() -> TinyVAE:
    network = TinyVAE(TinyVAEConfig((4, 5, 6), NARROW))
    randomise(network, 1)
    return network


@torch.no_grad()
def test_channels_that_are_always_zero_are_left_out() -> None:
    """At every level another one, of any weights that read it, and the picture stays."""
    wide = TinyVAE(TinyVAEConfig((4, 5, 6), (4, 5, 6)))
    randomise(wide, 3)
    for (first, last), dead in zip(LEVELS, (2, 0, 3), strict=True):
        begin, *blocks = (
            layer for layer in wide.decoder[first:last] if not isinstance(layer, nn.ReLU)
        )
        silence(begin, dead)
        for block in blocks:
            silence(block.out, dead)
            for inner in (block.join, block.middle):
                silence(inner, dead)
        if last < 13:
            for frame in range(2):
                silence(wide.decoder[last].split, dead + frame * len(begin.weight))
    slim = slimmed(wide, NARROW, LATENTS)
    torch.testing.assert_close(decode_all(slim, LATENTS), decode_all(wide, LATENTS))


def silence(layer: nn.Conv2d, channel: int) -> None:
    layer.weight.data[channel], layer.bias.data[channel] = 0, 0


@torch.no_grad()
def test_the_same_widths_are_the_same_decoder(vae: TinyVAE) -> None:
    assert torch.equal(decode_all(slimmed(vae, NARROW, LATENTS), LATENTS), decode_all(vae, LATENTS))


@torch.no_grad()
def test_narrower_at_each_level_alone_it_still_decodes(vae: TinyVAE) -> None:
    whole = decode_all(vae, LATENTS)
    for widths in ((2, 4, 5), (3, 3, 5), (3, 4, 4)):
        slim = slimmed(vae, widths, LATENTS)
        assert decode_all(slim, LATENTS).shape == whole.shape
        assert slim.config.decoder_widths == widths
        for name, weight in vae.encoder.state_dict().items():
            assert torch.equal(slim.encoder.state_dict()[name], weight)


def test_refining_makes_narrower_or_wider(vae: TinyVAE) -> None:
    pictures = randn(2, 5, 3, 16, 16)
    assert resized(vae, (2, 3, 4), pictures).config.decoder_widths == (2, 3, 4)
    assert resized(vae, (4, 5, 6), pictures).config.decoder_widths == (4, 5, 6)


def test_a_narrow_run_learns(vae: TinyVAE, tmp_path: Path) -> None:
    save_file(vae.state_dict(), tmp_path / "vae.safetensors")
    small = PictureSpec(clips=8, held_out=2, height=16, width=16)
    settings = VAERefinement(2, batch=2, pictures=small, widths=(2, 3, 4))
    refine(tmp_path / "vae.safetensors", tmp_path / "out", settings)
    learned = load_tiny_vae(tmp_path / "out" / "vae.safetensors")
    assert learned.config.decoder_widths == (2, 3, 4)
    old, new = vae.encoder.state_dict(), learned.encoder.state_dict()
    assert all(torch.equal(old[name].half().float(), new[name]) for name in old)
