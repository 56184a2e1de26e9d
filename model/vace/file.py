"""Reads VACE's module from a file of its own, or out of a whole Wan-VACE checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...errors import BadInput
from ..checkpoint import HEADLESS, dequantise
from ..config import DiTConfig
from ..families.names import Copy, from_diffusers, unwrap
from ..families.quantised import MARK, marked_format, stated_formats
from ..families.stated import MARKER, unscale
from ..families.tensors import Shapes, wrong
from ..files.header import Header
from ..files.number_checks import check_numbers
from ..files.weights import open_weights
from .module import VaceModule, control_channels

MAX_BLOCKS = 200  # the largest model has 40
PUBLISHED = {(1536, 30): 15, (5120, 40): 8}
"""The blocks of the published modules, by the width and the layers of the model."""
PREFIX = "vace_"
EMBEDDING = "vace_patch_embedding.weight"
_OURS = re.compile(r"(?:.*\.)?vace_((?:patch_embedding|blocks\.\d{1,4})\..+)")
_PROJECTIONS = {".proj_in.": ".before_proj.", ".proj_out.": ".after_proj."}  # diffusers' names


def open_module(path: Path, config: DiTConfig) -> tuple[VaceModule, DiTConfig]:
    """The module in float32 with the sizes that it was built for, beside a model of `config`.

    BadInput if the file holds no module, or that of a model of another size.
    """
    weights = open_weights(path)
    names = _official_names(weights.header)
    tensors = {name: weights.header.tensors[stored] for name, stored in names.items()}
    shapes = {name: info.shape for name, info in tensors.items()}
    sizes = replace(config, control_blocks=_blocks(path, shapes, config))
    with torch.device("meta"):
        module = VaceModule(sizes)
    needed = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    problem = wrong(tensors, needed)
    if problem:
        raise BadInput(f"{path} is no whole VACE module: {problem}; use the unmodified file.")
    if weights.header.container == "GGUF":
        raise BadInput(
            f"{path} is a GGUF file, whose VACE module Longtake cannot read; use a .safetensors "
            "file."
        )
    state = {name: weights.read(stored) for name, stored in names.items()}
    marks = {name: state.pop(name) for name in names if name.endswith(f".{MARK}")}
    _check_packing(weights.header, names, needed, marks)
    check_numbers(state, path)
    state = dequantise(state, path)
    plain = {name: state[name].float() for name in needed}
    module.load_state_dict(plain, assign=True)
    return module.eval().requires_grad_(False), sizes


def _check_packing(
    header: Header, names: Mapping[str, str], needed: Shapes, marks: Mapping[str, Tensor]
) -> None:
    """Refuse weights that are more than their numbers times a scale, or that lack their scale.

    `marks` are the tensors beside layers that name a format.
    """
    marked = {name.removesuffix(f".{MARK}"): marked_format(mark) for name, mark in marks.items()}
    stated = stated_formats(header, Copy("", "official", names)) | marked
    packed = [layer for layer, form in stated.items() if form not in HEADLESS]
    name = next((f"{layer}.weight" for layer in packed if f"{layer}.weight" in names), None)
    if name is not None:
        raise BadInput(
            f"{header.path} holds {name} in a packing that Longtake cannot unpack; use an fp16, "
            "bf16 or scaled fp8 file."
        )
    dtypes = {_plain(name): header.tensors[stored].dtype for name, stored in names.items()}
    if any(stored.endswith(MARKER) for stored in header.tensors):
        dtypes[MARKER] = ""
    bare = unscale(dtypes, {_plain(name): shape for name, shape in needed.items()})
    if bare:
        raise BadInput(
            f"{header.path} holds {PREFIX}{bare} as {dtypes[bare]} without its scale; use a file "
            "with all scales, or an fp16 or bf16 one."
        )


def _plain(name: str) -> str:
    """The name of a tensor of the module as that of a block of the model."""
    return name.removeprefix(PREFIX)


def _official_names(header: Header) -> dict[str, str]:
    """Official name to stored name of the module's tensors, in any layout and behind any prefix."""
    names = {}
    for stored in header.tensors:
        match = _OURS.fullmatch(unwrap(stored))
        if match:
            name = from_diffusers(match[1])
            for theirs, official in _PROJECTIONS.items():
                name = name.replace(theirs, official)
            names[f"vace_{name}"] = stored
    return names


def _blocks(path: Path, shapes: dict[str, tuple[int, ...]], config: DiTConfig) -> int:
    """The number of blocks; BadInput where the module belongs to another model."""
    if EMBEDDING not in shapes:
        raise BadInput(
            f"{path} holds no VACE module (no {EMBEDDING}); choose a Wan-VACE file, or a module "
            "file whose tensors begin with vace_."
        )
    dim, channels, *_ = (*shapes[EMBEDDING], 0, 0)
    if dim != config.dim:
        raise BadInput(
            f"The VACE module of {path} is {dim} wide and the model {config.dim}; choose the "
            "module of a model of the same size (1536: 1.3B, 5120: 14B)."
        )
    if channels != control_channels(config.out_channels):
        raise BadInput(
            f"The VACE module of {path} reads {channels} channels, and one for this model reads "
            f"{control_channels(config.out_channels)}; choose the module of a Wan 2.1 model."
        )
    numbers = {int(name.split(".")[1]) for name in shapes if name.startswith("vace_blocks.")}
    blocks = 1 + max(numbers, default=-1)
    if not 1 <= blocks <= MAX_BLOCKS or config.num_layers % blocks:
        raise BadInput(
            f"The VACE module of {path} has {blocks} blocks, which do not divide the model's "
            f"{config.num_layers} layers evenly; choose the module of a model of the same size."
        )
    published = PUBLISHED.get((config.dim, config.num_layers), blocks)
    if blocks < published:
        raise BadInput(
            f"The VACE module of {path} has {blocks} blocks, and that of such a model has "
            f"{published}; download it again."
        )
    return blocks
