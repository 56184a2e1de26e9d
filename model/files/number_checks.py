"""Refuses weights whose numbers show that a file is broken or not whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ...errors import BadInput

TRAINED = re.compile(r"blocks\.\d+\.(self_attn\.[qkv]|ffn\.0)\.weight")
"""Matrices that no training leaves or begins as zeros."""


def check_numbers(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse (BadInput) NaN, infinity and a block's matrix of zeros, by the name of the tensor.

    A download that reserved its room and was cut short has such zeros.
    """
    for name, tensor in state.items():
        total = tensor.float().sum() if tensor.is_floating_point() else None
        if total is not None and not total.isfinite():
            raise BadInput(f"{path} has NaN or infinity in {name}; download it again.")
        if total == 0 and TRAINED.fullmatch(name) and not tensor.float().any():
            raise BadInput(f"{path} has nothing but zeros in {name}; download it again.")
