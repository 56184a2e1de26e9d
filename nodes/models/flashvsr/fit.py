"""Whether FlashVSR fits this machine, told from the headers of its files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from ....errors import BadInput
from ....model.files.header import Header
from ....model.files.weights import open_weights
from ....model.flashvsr.canvas import Canvas
from ....model.flashvsr.header_sizes import (
    check_together,
    decoder_widths,
    projector_sizes,
    transformer_of,
)
from ....model.flashvsr.memory import pass_memory, state_bytes
from ....model.flashvsr.parts import Parts
from ....model.flashvsr.sizes import Sizes
from ....model.flashvsr.tiles import TILE_SIDES, Tiling
from ....units import byte_size
from ..fit import CPU, Fit, Machine, without_folders

USUAL = Canvas(1408, 768)
"""The size of the answer: 352x192 four times as large."""
SIDES = 0, *TILE_SIDES


def fit_flashvsr(
    parts: Parts, machine: Machine, *, causal: bool, weight_dtype: torch.dtype | None = None
) -> Fit:
    """Plan passes over the whole picture, else over the largest tiles that fit.

    `causal` is version 1.1. `weight_dtype` is the transformer's; None is the host's choice.
    """
    try:
        headers = {path: open_weights(path).header for path in _paths(parts)}
        sizes = _sizes(parts, headers, machine.dtype, causal=causal)
    except BadInput as error:
        return Fit(without_folders(error, *_paths(parts)), False)
    stored = machine.dtype if weight_dtype is None or machine.device == CPU else weight_dtype
    beside = sum(_count(headers[path]) for path in (parts.projector, parts.decoder))
    weights = _count(headers[parts.transformer]) * stored.itemsize + beside * machine.dtype.itemsize
    return _answer(sizes, weights, machine)


def _paths(parts: Parts) -> tuple[Path, ...]:
    return parts.transformer, parts.projector, parts.decoder, parts.prompt


def _sizes(
    parts: Parts, headers: Mapping[Path, Header], dtype: torch.dtype, *, causal: bool
) -> Sizes:
    shapes = {
        path: {name: tensor.shape for name, tensor in header.tensors.items()}
        for path, header in headers.items()
    }
    config = transformer_of(headers[parts.transformer]).config
    projector = projector_sizes(shapes[parts.projector], parts.projector, causal=causal)
    (prompt,) = shapes[parts.prompt].values()
    check_together(parts, config, projector, prompt[-1])
    widths = decoder_widths(shapes[parts.decoder], parts.decoder)
    return Sizes(config, projector, widths, dtype, prompt[-2])


def _count(header: Header) -> int:
    return sum(math.prod(tensor.shape) for tensor in header.tensors.values())


def _answer(sizes: Sizes, weight_bytes: int, machine: Machine) -> Fit:
    text = f"FlashVSR: {byte_size(weight_bytes)} weights"
    have = f"{byte_size(machine.memory_bytes)} of {machine.name}"
    room = machine.room_bytes - weight_bytes
    for side in SIDES:
        if state_bytes(sizes, Tiling(USUAL, side), machine.device) > room:
            continue  # what a pass takes beside it needs no rehearsal
        passes = _pass_bytes(sizes, side, machine)
        if passes <= room:
            size = f"{byte_size(passes)} memory at {_size(side)}"
            return Fit(f"{text} + {size}. Fits {have}, if the shot's own model makes room.", True)
    return Fit(f"{text}. Does not fit {have}: {_least(sizes, weight_bytes, machine)}", False)


def _least(sizes: Sizes, weight_bytes: int, machine: Machine) -> str:
    """The least that is needed, and what would change it.

    In main memory lie the states of all tiles, so small ones take more than large ones.
    """
    sides = SIDES if machine.device == CPU else SIDES[-1:]
    passes, side = min((_pass_bytes(sizes, side, machine), side) for side in sides)
    needed = f"{_size(side)} needs {byte_size(weight_bytes + passes)}."
    return needed if machine.device == CPU else f"{needed} Set weight_dtype to fp8_e4m3fn."


def _pass_bytes(sizes: Sizes, side: int, machine: Machine) -> int:
    memory = pass_memory(sizes, Tiling(USUAL, side), machine.device)
    return memory.state_bytes + memory.working_bytes


def _size(side: int) -> str:
    """The size of the picture, and that of its tiles."""
    picture = f"{USUAL.width}x{USUAL.height}"
    return f"{picture} in tiles of {side} pixels" if side else picture
