"""Tests of 8-bit integers run where the processor has instructions for them."""

from __future__ import annotations

import pytest
import torch

from longtake.machine.products import convolves_in_int8

needs_int8 = pytest.mark.skipif(
    not convolves_in_int8(torch.device("cpu")),
    reason="this CPU has no instructions for 8-bit products, or this torch no kernels with them",
)


def has_amx() -> bool:
    """Whether oneDNN multiplies 8-bit integers by AMX here, with buffers of its kernels' own."""
    return bool(torch.cpu.get_capabilities().get("amx_int8", False))
