"""The kind of device on which a tensor lies, or would lie where `meta` rehearses another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_META_STANDS_FOR: ContextVar[str] = ContextVar("kind of device", default="cpu")


@contextmanager
def simulate_device(device: torch.device) -> Iterator[None]:
    """Treat meta tensors as if they were on `device`, to rehearse its memory use."""
    before = _META_STANDS_FOR.set(device.type)
    try:
        yield
    finally:
        _META_STANDS_FOR.reset(before)


def device_kind(x: Tensor) -> str:
    """The kind of device of x, or the one that `meta` stands for."""
    if x.is_cpu:  # which is told without a device to be made
        return "cpu"
    return _META_STANDS_FOR.get() if x.is_meta else x.device.type
