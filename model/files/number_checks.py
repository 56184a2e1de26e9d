"""Refuses weights whose numbers show that a file is broken or not whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...errors import BadInput

TRAINED = re.compile(
    r"(vace_)?blocks\.\d+\.(self_attn\.[qkv]|ffn\.0)\.(weight|scale_weight|weight_scale)"
    r"|(encoder|decoder)\..*(residual|conv)\.\d\.weight"
)
"""Matrices that no training leaves or begins as zeros, scales of quantised ones, and the
convolutions of a VAE (Wan's and TAEHV's names).
"""
SCALE = re.compile(
    r"(.*\.)?(scale_weight|weight_scale(_2)?|scale_input|input_scale|input_absmax"
    r"|(weight|input)_global_scale)"
)
"""What a quantised layer is multiplied with; each comes from the largest of absolute numbers."""


def check_numbers(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse (BadInput) what `check_tensor` refuses in any tensor of a file."""
    for name, tensor in state.items():
        check_tensor(name, tensor, path)


def check_tensor(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse (BadInput) NaN, infinity, complex numbers, zeros as `TRAINED`, and a scale below 0.

    A download that reserved its room and was cut short has such zeros, in any number format.
    """
    if tensor.is_complex():
        raise BadInput(
            f"{path} holds {name} as complex numbers, which no layer has; use an fp16, bf16 or "
            "fp32 file."
        )
    is_float = tensor.is_floating_point()
    total = _wide(tensor).sum() if is_float else None
    if total is not None and not total.isfinite() and not _wide(tensor).isfinite().all():
        raise BadInput(f"{path} has NaN or infinity in {name}; download it again.")
    check_scale(name, tensor, path)
    if not TRAINED.fullmatch(name) or (total is not None and total != 0):
        return
    if not (_wide(tensor) if is_float else tensor).any():
        raise BadInput(f"{path} has nothing but zeros in {name}; download it again.")


def check_scale(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse (BadInput) a scale below 0: a layer with its sign turned makes noise."""
    if SCALE.fullmatch(name) and tensor.is_floating_point() and (_wide(tensor) < 0).any():
        raise BadInput(f"{path} has a scale below 0 in {name}; download it again.")


def _wide(tensor: Tensor) -> Tensor:
    """The numbers where they can be added: fp8 and half numbers in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
