"""Quantised weights in LightX2V's container, and the numbers that they stand for.

Written from ModelTC/LightX2V f8aee98 (Apache-2.0): `tools/convert/converter.py`, `quant/quant.py`
for names and scales, `lightx2v_kernel/test/nvfp4_nvfp4/fake_quant.py` for rounding,
`csrc/gemm/nvfp4_quant_kernels_sm120.cu` for the order of numbers and scales. Its kernel itself runs
on an RTX 50 alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from longtake.tests.support.model.family_files import State

PARTS = ("self_attn", "cross_attn", "ffn")
Layer = tuple[dict[str, Tensor], Tensor]
"""What is stored beside and for a weight, by the end of its name, and the weight it stands for."""


def quantised_layers(weights: State) -> list[str]:
    """The names of the weights that its converter packs: matrices of attention and MLP."""
    inside = (name for name in weights if name.startswith("blocks.") and name.endswith(".weight"))
    return [n for n in inside if weights[n].ndim == 2 and n.split(".")[2] in PARTS]


def file_and_meaning(weights: State, pack: Callable[[Tensor], Layer]) -> tuple[State, State]:
    """A file's tensors under LightX2V's names, and the plain weights that they stand for."""
    stored, plain = dict(weights), dict(weights)
    for name in quantised_layers(weights):
        parts, plain[name] = pack(weights[name])
        stored.pop(name)
        stored |= {name.removesuffix("weight") + end: tensor for end, tensor in parts.items()}
    return {f"model.{name}": tensor for name, tensor in stored.items()}, plain


def fp8(weight: Tensor) -> Layer:
    """e4m3 with a scale for each row."""
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-5) / 448
    packed = (weight / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
    return {"weight": packed, "weight_scale": scale}, packed.float() * scale


def wide_fp8(weight: Tensor) -> Layer:
    """e5m2 over its whole range, with one scale under the older name (Kijai's scaled files)."""
    scale = weight.abs().max() / 57344
    packed = (weight / scale).to(torch.float8_e5m2)
    return {"weight": packed, "scale_weight": scale.reshape(1)}, packed.float() * scale


def int8(weight: Tensor) -> Layer:
    """Whole numbers with a scale for each row."""
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-5) / 127
    packed = (weight / scale).round().clamp(-128, 127).to(torch.int8)
    return {"weight": packed, "weight_scale": scale}, packed.float() * scale


def nvfp4(weight: Tensor) -> Layer:
    """Blocks of 16 with the largest number of the inputs that calibration met."""
    parts, plain, largest = _nvfp4(weight)
    parts["weight_global_scale"] = 2688 / largest
    parts["input_absmax"] = torch.tensor([5.0])
    return parts, plain


def nvfp4_with_alpha(weight: Tensor) -> Layer:
    """The same under the other names: the product of both scales, and the inputs' one."""
    parts, plain, largest = _nvfp4(weight)
    parts["input_global_scale"] = torch.tensor(2688 / 5.0)
    parts["alpha"] = 1 / (parts["input_global_scale"] * (2688 / largest))
    return parts, plain


VALUES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
MIDDLES = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])


def _nvfp4(weight: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    largest = weight.abs().max()
    blocks = weight.unflatten(1, (-1, 16))
    scales = (2688 / largest * blocks.abs().amax(-1) / 6).to(torch.float8_e4m3fn)
    step = scales.float() * largest / 2688  # of each block
    code = torch.bucketize((blocks.abs() / step[..., None]).clamp(max=6), MIDDLES)
    plain = (VALUES[code] * blocks.sign() * step[..., None]).flatten(1)
    four_bits = (code + 8 * (blocks < 0)).flatten(1).to(torch.uint8)
    packed = four_bits[:, 0::2] | four_bits[:, 1::2] << 4  # the first number in the low half
    return {"weight": packed, "weight_scale": _tiled(scales)}, plain, largest


def _tiled(scales: Tensor) -> Tensor:
    """The kernel's places of the scale of row m, block k: tiles of 128 rows and 4 blocks."""
    rows, blocks = scales.shape
    high, wide = -(-rows // 128), -(-blocks // 4)
    places = torch.zeros(high * wide * 512, dtype=torch.uint8)
    for m in range(rows):
        for k in range(blocks):
            tile = (m // 128) * wide + k // 4
            place = tile * 512 + (m % 32) * 16 + (m % 128) // 32 * 4 + k % 4
            places[place] = scales.view(torch.uint8)[m, k]
    return places.view(high * 128, wide * 4).view(torch.float8_e4m3fn)
