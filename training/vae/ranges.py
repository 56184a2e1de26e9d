"""Measure how large the features of the demo's decoder become, for decoding in 8-bit integers.

`python -m longtake.training.vae.ranges --vae FILE --out FILE`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from ...model.checkpoint import load_tiny_vae
from ...model.preset import DEMO, DEMO_FOLDER
from ...model.vae.int8.ranges import Ranges, save_ranges
from ...model.vae.tiny import Conv, Grow, MemoryBlock, TinyVAE, decode_all
from ..command import FILE, reporting
from ..world.clips import random_shot
from ..world.dataset import encode_shots

CLIPS, LATENT_FRAMES = 64, 12

Sizes = Callable[[Tensor], Tensor]
"""The values (n, c, h, w) that count of what a module makes."""


@torch.no_grad()
def measure_ranges(vae: TinyVAE, latents: Tensor) -> Ranges:
    """The largest size of each channel's values, in the frames of latents (b, n, c, h, w)."""
    ranges: dict[str, list[Tensor]] = defaultdict(list)

    def keep(name: str, sizes: Sizes, _module: nn.Module, _inputs: object, x: Tensor) -> None:
        ranges[name].append(sizes(x.flatten(0, -4)).amax((0, 2, 3)))

    hooks = [
        module.register_forward_hook(partial(keep, name, sizes))
        for name, (module, sizes) in places(vae.decoder).items()
    ]
    try:
        for clip in latents:
            decode_all(vae, clip[None])
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.stack(largest).amax(0) for name, largest in ranges.items()}


def places(layers: nn.Module) -> dict[str, tuple[nn.Module, Sizes]]:
    """The modules whose values get codes, by name, and which of their values count."""
    modules: dict[str, tuple[nn.Module, Sizes]] = {}
    *before_last, _ = layers.named_children()  # the last one makes pictures
    for name, layer in before_last:
        match layer:
            case MemoryBlock():
                modules[f"{name}.join"] = layer.join, torch.relu
                modules[f"{name}.middle"] = layer.middle, torch.relu
                modules[name] = layer, torch.relu
            case Grow():
                modules[f"{name}.split"] = layer.split, partial(either_frame, layer.frames)
            case Conv():
                modules[name] = layer, torch.relu
    return modules


def either_frame(frames: int, x: Tensor) -> Tensor:
    """The sizes of what a `split` makes (n, k c, h, w), a frame each: they have the same units."""
    of_each: Tensor = x.unflatten(1, (frames, -1))
    return of_each.flatten(0, 1).abs()


@click.command(help=__doc__)
@click.option("--vae", type=FILE, default=DEMO_FOLDER / "vae.safetensors", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--clips", type=click.IntRange(1), default=CLIPS, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(vae: Path, out: Path, clips: int, seed: int) -> None:
    with reporting():
        network, rng = load_tiny_vae(vae), random.Random(seed)
        shots = [random_shot(rng, LATENT_FRAMES) for _ in range(clips)]
        latents = encode_shots(network, shots, LATENT_FRAMES, DEMO.width).float()
        save_ranges(measure_ranges(network, latents), network, out)


if __name__ == "__main__":
    main()
