"""Ranges of a decoder's features, against what the layers make one after another."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from longtake.model.vae.memory_order import with_frame_before
from longtake.model.vae.tiny import Conv, Grow, MemoryBlock, TinyVAE, TinyVAEConfig
from longtake.tests.support.tiny_model import randn, randomise
from longtake.training.vae.ranges import measure_ranges


@torch.no_grad()
def test_ranges_are_the_largest_values_of_every_channel() -> None:
    vae = TinyVAE(TinyVAEConfig(decoder_widths=(4, 5, 6)))
    randomise(vae, 1)
    latents = randn(2, 3, 16, 2, 3)
    expected, x = {}, vae.squash(latents)
    *layers, _ = vae.decoder.named_children()
    for name, layer in layers:
        match layer:
            case MemoryBlock():
                y = F.relu(layer.join(with_frame_before(x, torch.zeros_like(x[:, :1]))))
                expected[f"{name}.join"] = y
                expected[f"{name}.middle"] = y = F.relu(layer.middle(y))
                expected[name] = x = F.relu(layer.out(y) + x)
            case Grow():
                split = layer.split(x.flatten(0, 1)).unflatten(1, (layer.frames, -1))
                expected[f"{name}.split"] = split.abs()
                x = layer(x)
            case Conv():
                expected[name] = x = F.relu(layer(x))
    ranges = measure_ranges(vae, latents)
    assert ranges.keys() == expected.keys()
    for name, made in expected.items():
        torch.testing.assert_close(ranges[name], made.flatten(0, 1).amax((0, 2, 3)))
