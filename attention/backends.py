"""Which attention backends this machine can use, and why it cannot use the others.

The kernels of PyTorch's scaled_dot_product_attention are run on a small tensor. FlexAttention is
only looked up, since compiling takes long. Packages that users install for speed are named as
unused.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SDPA_KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
UNUSED = "installed, but not used: Longtake's sampler computes with PyTorch's own kernels"
PACKAGES = {"sageattention": "sageattention", "flash-attn": "flash_attn", "xformers": "xformers"}
COMPILERS = ("cl",) if sys.platform == "win32" else ("c++", "g++", "clang++")
FLEX_SINCE = (2, 6)


def usable_backends(device: torch.device) -> dict[str, str | None]:
    """For each backend, why it cannot be used on `device`, or None."""
    sdpa = {f"SDPA {name}": _sdpa_reason(kernel, device) for name, kernel in SDPA_KERNELS.items()}
    packages = {name: UNUSED for name, module in PACKAGES.items() if _is_installed(module)}
    return {**sdpa, "FlexAttention": flex_reason(device), **packages}


def flex_reason(device: torch.device) -> str | None:
    """Why FlexAttention cannot be compiled for `device`, or None."""
    if not torch_since(FLEX_SINCE):
        return f"needs torch {FLEX_SINCE[0]}.{FLEX_SINCE[1]} or newer"
    if device.type not in ("cuda", "cpu"):
        return f"cannot be compiled for {device.type}"
    return compiler_reason(device)


def torch_since(version: tuple[int, int]) -> bool:
    """Whether this torch is of that version or a newer one."""
    major, minor = torch.__version__.split(".")[:2]
    return (int(major), int(minor)) >= version


def compiler_reason(device: torch.device) -> str | None:
    """What torch lacks to compile for `device`, or None; other devices than these are not known."""
    if device.type == "cuda":
        available = importlib.util.find_spec("triton") is not None
        return None if available else "triton, which compiles it, is not installed"
    if device.type == "cpu":
        available = any(shutil.which(name) for name in COMPILERS)
        return None if available else f"no C++ compiler ({' or '.join(COMPILERS)}) on the PATH"
    return None


def _sdpa_reason(kernel: SDPBackend, device: torch.device) -> str | None:
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    query = torch.zeros(1, 2, 64, 64, device=device, dtype=dtype)
    with warnings.catch_warnings(record=True) as caught, sdpa_kernel(kernel):
        warnings.simplefilter("always")
        try:
            scaled_dot_product_attention(query, query, query)
        except RuntimeError as error:
            general = f"PyTorch has none for {device.type} ({str(error).splitlines()[0]})"
            return first_reason([str(warning.message) for warning in caught]) or general
    return None


def first_reason(messages: list[str]) -> str | None:
    """Why the only allowed kernel was not used, from PyTorch's warnings about all its kernels.

    PyTorch warns "Flash attention kernel not used because:" and gives the reason in a separate
    warning. It calls the kernels that were not allowed "runtime disabled".
    """
    uninformative = ("because:", "runtime disabled")
    lines = [line.split(" (Triggered")[0].strip() for line in messages]
    return next((x for x in lines if not any(text in x for text in uninformative)), None)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
