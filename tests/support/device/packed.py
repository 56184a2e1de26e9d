"""Lets ComfyUI's quantised tensors hold tensors of the stand-in for CUDA."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from longtake.tests.support.device.cuda import inner_device


def begin() -> None:
    """Let quantised tensors be where their numbers are; `cuda.begin` comes first."""
    from comfy_kitchen.tensor.base import QuantizedTensor

    kind: Any = QuantizedTensor

    def new(cls: Any, qdata: Tensor, layout_cls: str, params: Any) -> Any:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, params.orig_shape, device=inner_device(qdata.device), dtype=params.orig_dtype,
            requires_grad=False,
        )  # fmt: skip

    def device(self: Any) -> torch.device:
        where: torch.device = self._qdata.device
        return where

    kind.__new__, kind.device = staticmethod(new), property(device)
