"""Rewrites quantised layers of LightX2V's files in the host's form, a tensor at a time.

Sources: ModelTC/LightX2V f8aee98 `tools/convert/quant/quant.py`,
`lightx2v/common/ops/mm/mm_weight.py` and `lightx2v_kernel/csrc/gemm/nvfp4_quant_kernels_sm120.cu`;
comfy_kitchen 0.2.31 `tensor/` for what the host wants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .families.quantised import FP8, FP8_ROWS, FP8_WIDE, INT8, NVFP4, NVFP4_SCALES, Quantisation
from .families.stated import MARKER
from .files.header import TensorInfo

OLD_SCALES = ("scale_weight", "scale_input")
FP4_TIMES_FP8_MAX = 6.0 * 448.0
"""Largest number of NVFP4's e2m1 values times that of its e4m3 scales."""


@dataclass(frozen=True, slots=True)
class HostTensor:
    """A tensor of the host's form: what the file's `sources` are computed into, of this dtype.

    It has the shape of the first source, or is one number.
    """

    sources: tuple[str, ...]
    compute: Callable[..., Tensor]
    dtype: str
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class HostLayers:
    """What takes the place of some of a file's tensors, by official names."""

    tensors: Mapping[str, HostTensor]
    dropped: frozenset[str]


def host_layers(quantised: Quantisation, names: Mapping[str, TensorInfo]) -> HostLayers:
    """What the host needs in place of the layers that it would not know by itself."""
    tensors: dict[str, HostTensor] = {}
    for layer in quantised.unmarked_in(FP8_ROWS):
        scale = _scale_of(layer, names)
        tensors[f"{layer}.weight"] = HostTensor((f"{layer}.weight", scale), unpack_rows, "BF16")
    for form in (FP8, FP8_WIDE, INT8):
        for layer in quantised.unmarked_in(form):
            source = (_scale_of(layer, names),)
            tensors[f"{layer}.weight_scale"] = HostTensor(source, torch.Tensor.float, "F32")
    for layer in quantised.unmarked_in(NVFP4):
        tensors |= _nvfp4(layer, names)
    return HostLayers(tensors, _dropped(quantised, names) - tensors.keys())


def unpack_rows(weight: Tensor, scale: Tensor) -> Tensor:
    """A weight (out, in) of fp8 with a scale for each row, as bf16."""
    return (weight.float() * scale.float().reshape(-1, 1)).to(torch.bfloat16)


def swap_halves(packed: Tensor) -> Tensor:
    """Two 4-bit numbers a byte, with the other one first.

    LightX2V's kernel (`cvt.rn.satfinite.e2m1x2`) puts the first number in the low half,
    comfy_kitchen in the high one.
    """
    return packed << 4 | packed >> 4


def _nvfp4(layer: str, names: Mapping[str, TensorInfo]) -> dict[str, HostTensor]:
    """LightX2V multiplies by 2688 / largest where the host divides: its scales are reciprocals."""
    at = {end: f"{layer}.{end}" for end in NVFP4_SCALES if f"{layer}.{end}" in names}
    tensors = {f"{layer}.weight": HostTensor((f"{layer}.weight",), swap_halves, "U8")}
    if "weight_global_scale" in at:
        second = _number(_reciprocal, at["weight_global_scale"])
    else:
        second = _number(_product, at["alpha"], at["input_global_scale"])
    tensors[f"{layer}.weight_scale_2"] = second
    if "input_absmax" in at:
        tensors[f"{layer}.input_scale"] = _number(_of_largest, at["input_absmax"])
    elif "input_global_scale" in at:
        tensors[f"{layer}.input_scale"] = _number(_reciprocal, at["input_global_scale"])
    return tensors


def _number(compute: Callable[..., Tensor], *sources: str) -> HostTensor:
    return HostTensor(sources, compute, "F32", is_number=True)


def _dropped(quantised: Quantisation, names: Mapping[str, TensorInfo]) -> frozenset[str]:
    """Tensors of the unmarked layers that the host has no place for."""
    ends = ("weight_scale", "input_scale")
    of_rows = {f"{layer}.{end}" for layer in quantised.unmarked_in(FP8_ROWS) for end in ends}
    renamed = {f"{layer}.{end}" for layer in quantised.unmarked for end in OLD_SCALES}
    if quantised.unmarked:  # which are listed, and the host then knows no marker
        renamed.add(MARKER)
    scales = {f"{layer}.{end}" for layer in quantised.unmarked_in(NVFP4) for end in NVFP4_SCALES}
    return frozenset((of_rows | renamed | scales) & names.keys())


def _scale_of(layer: str, names: Mapping[str, TensorInfo]) -> str:
    new = f"{layer}.weight_scale"
    return new if new in names else f"{layer}.scale_weight"


def _reciprocal(scale: Tensor) -> Tensor:
    return 1 / scale.float().reshape(())


def _product(alpha: Tensor, input_scale: Tensor) -> Tensor:
    """1 / weight scale, since alpha is 1 / (input scale * weight scale)."""
    return alpha.float().reshape(()) * input_scale.float().reshape(())


def _of_largest(largest: Tensor) -> Tensor:
    return largest.float().reshape(()) / FP4_TIMES_FP8_MAX
