"""A tiny decoder in 8-bit integers, which some CPUs multiply several times as fast as float32."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn

from ..tiny import Conv, Grow, MemoryBlock, TinyVAE
from .layers import Int8Conv, Int8Grow, Int8MemoryBlock, IntoCodes
from .ranges import Ranges
from .units import Units, balance, units


def decoding_in_int8(vae: TinyVAE, ranges: Ranges) -> TinyVAE:
    """A VAE with the same encoder that decodes in 8-bit integers, and gives float32 pictures.

    `ranges` are those of its decoder.
    """
    coded = copy(vae)
    coded._modules = {**vae._modules, "decoder": nn.ModuleList(_coded_layers(vae, ranges))}
    return coded


@dataclass(frozen=True, slots=True)
class Level:
    """The layers of one resolution, each with its name: `reader` reads what `blocks` leave."""

    first: tuple[str, Conv]
    blocks: list[tuple[str, MemoryBlock]]
    reader: tuple[str, Grow | Conv]

    def balance(self, ranges: Ranges) -> Tensor:
        """Proportions of all units at this level, since blocks add to what they read."""
        largest = torch.stack([ranges[name] for name, _ in (self.first, *self.blocks)]).amax(0)
        joins = [half for _, block in self.blocks for half in block.join.weight.chunk(2, 1)]
        return balance(largest, [*joins, _convolution(self.reader[1]).weight])


def levels(vae: TinyVAE) -> Iterator[Level]:
    """The decoder's levels, from 1/8 on."""
    first, blocks = None, []
    for name, layer in vae.decoder.named_children():
        match layer:
            case Conv() if first is None:
                first = (name, layer)
            case MemoryBlock():
                blocks.append((name, layer))
            case Grow() | Conv():
                assert first is not None
                yield Level(first, blocks, (name, layer))
                first, blocks = None, []


def _convolution(layer: Grow | Conv) -> nn.Conv2d:
    return layer.split if isinstance(layer, Grow) else layer


def _coded_layers(vae: TinyVAE, ranges: Ranges) -> Iterator[nn.Module]:
    coming: Units | None = None  # what the level reads; the first one reads latents
    of_vae = [*levels(vae)]
    for level, next_level in zip_longest(of_vae, of_vae[1:]):
        proportions = level.balance(ranges)
        name, conv = level.first
        now = units(proportions, ranges[name])
        yield IntoCodes(conv, now) if coming is None else Int8Conv(conv, coming, now)
        for name, block in level.blocks:
            after = units(proportions, ranges[name])
            yield _coded_block(name, block, ranges, now, after)
            now = after
        name, reader = level.reader
        if not isinstance(reader, Grow):
            yield Int8Conv(reader, now, None)
            continue
        largest, (_, into) = ranges[f"{name}.split"], next_level.first
        coming = units(balance(largest, [into.weight]), largest, signed=True)
        of_frames = Units(coming.values.repeat(reader.frames), coming.zero)
        yield Int8Grow(Int8Conv(reader.split, now, of_frames), reader.frames)


def _coded_block(
    name: str, block: MemoryBlock, ranges: Ranges, now: Units, after: Units
) -> Int8MemoryBlock:
    """A memory block that reads the units `now`, and gives those `after` it."""
    joined, middle = (
        units(balance(largest, [reader.weight]), largest)
        for largest, reader in (
            (ranges[f"{name}.join"], block.middle),
            (ranges[f"{name}.middle"], block.out),
        )
    )
    both = Units(now.values.repeat(2))
    return Int8MemoryBlock(
        Int8Conv(block.join, both, joined),
        Int8Conv(block.middle, joined, middle),
        Int8Conv(block.out, middle, after),
        float((now.values / after.values).mean()),
    )
