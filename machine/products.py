"""Matrix products by oneDNN, which some CPUs compute faster than torch's own.

torch multiplies by MKL, which keeps to half the width of AVX-512 on AMD's processors. oneDNN, which
torch has for convolutions, uses all of it there, and takes about half the time. Each of its calls
takes some ten microseconds more, so that MKL stays ahead on Intel's processors. With instructions
for bfloat16 oneDNN takes half the time again.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .rehearsed_device import device_kind

WIDE = "AVX512"
AMD = "AuthenticAMD"  # as the processor itself says
FACTS = Path("/proc/cpuinfo")
HALF_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
TILE_INSTRUCTIONS = ("amx_bf16",)
INT8_INSTRUCTIONS = ("avx2",)
SUPPORTS_HALF = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}
INT8_CONVOLUTIONS = ("qconv_prepack", "qconv2d_pointwise")
INT8_SUM = ("qx", "x_scale", "x_zero_point", "qw", "w_scale", "w_zero_point", "qaccum", "bias")
"""The first arguments of a convolution that adds to other codes; older torch has another order."""
FEWEST_PRODUCTS = 1 << 20
"""Multiplications below which a call takes longer than it saves."""


@functools.cache
def has_wide_products() -> bool:
    """Whether this CPU has AVX-512 and this torch has oneDNN's products.

    `ATEN_CPU_CAPABILITY=avx2` in the environment says no.
    """
    needed = ("_linear_pointwise", "_reorder_linear_weight")
    offers = torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in needed
    )
    return offers and torch.backends.cpu.get_cpu_capability() == WIDE


@functools.cache
def outdoes_mkl() -> bool:
    """Whether oneDNN's float32 products outdo MKL's: on AMD's CPUs with AVX-512."""
    return has_wide_products() and AMD in _names_of_processor()


def _names_of_processor() -> str:
    """What the system says of this computer's processor, its maker among it."""
    if not FACTS.exists():  # Windows and macOS
        return platform.processor()
    with FACTS.open(encoding="utf-8", errors="replace") as facts:
        return facts.read(4096)  # of the first core


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device is a CPU with instructions for bfloat16; older torch cannot tell: False."""
    return device.type == "cpu" and _has_any(HALF_INSTRUCTIONS)


def multiplies_tiles() -> bool:
    """Whether the CPU has AMX for bfloat16; older torch cannot tell: False."""
    return _has_any(TILE_INSTRUCTIONS)


def convolves_slowly(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device is a CPU whose convolutions in 16 bits take ten times as long as in float32.

    oneDNN makes these with AVX-512 (bfloat16) or its extension for float16; torch's own, which take
    over elsewhere, are that slow.
    """
    if device.type != "cpu" or dtype not in SUPPORTS_HALF:
        return False
    supports = getattr(torch.ops.mkldnn, SUPPORTS_HALF[dtype], None)
    return supports is not None and not supports()


def convolves_in_int8(device: torch.device) -> bool:
    """Whether a device is a CPU with instructions for products of 8-bit integers, and this torch
    has convolutions with them; older torch cannot tell: False.

    AVX2 has them, and every later extension. Without VNNI weights must be small enough, as those of
    `model.vae.int8` are, or sums overflow.
    """
    if device.type != "cpu" or not _has_any(INT8_INSTRUCTIONS):
        return False
    offers = torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.onednn, name) for name in INT8_CONVOLUTIONS
    )
    return offers and _arguments_of_sum() == INT8_SUM


def _arguments_of_sum() -> tuple[str, ...]:
    arguments = torch.ops.onednn.qconv2d_pointwise.binary._schema.arguments
    return tuple(argument.name for argument in arguments[: len(INT8_SUM)])


def _has_any(instructions: Sequence[str]) -> bool:
    tell = getattr(torch.cpu, "get_capabilities", None)
    known = {} if tell is None else tell()
    return any(known.get(name, False) for name in instructions)


def suits_products(x: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> bool:
    """Whether `product` computes `outputs` (n) from float32 x here, in a dtype, and gains; it knows
    no gradients.
    """
    if x.dtype is not torch.float32 or torch.is_grad_enabled() or device_kind(x) != "cpu":
        return False
    gains = outdoes_mkl if dtype is torch.float32 else has_wide_products
    return x.numel() * outputs >= FEWEST_PRODUCTS and gains()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """x (..., k) times the transpose of `weight` (n, k), plus `bias` (n): (..., n), all of one
    dtype.

    With `gelu`, in its tanh form, which takes no pass over memory of its own. The weight may be
    packed.
    """
    if not (weight.is_mkldnn or weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()  # oneDNN takes other orders too, a thousand times as slowly
    name, form = ("gelu", "tanh") if gelu else ("none", "")
    out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, name, [], form)
    return out


def pack(weight: Tensor) -> Tensor:
    """A copy of a weight (n, k) in the order in which oneDNN multiplies by it, for `product` alone.

    The products have the same bits, in a tenth less time.
    """
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed
