"""The kernel for attention between pairs of blocks: FlexAttention on CUDA, else gathering.

FlexAttention neither gathers nor fills pages up, so it reads and computes less. It is tried once on
the user's own device, against gathering, before it is used.
"""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

from ..backends import flex_reason
from . import gathered
from .choice import BlockPairs

logger = logging.getLogger("longtake")

TRIAL_HEADS, TRIAL_QUERIES, TRIAL_KEYS, BLOCK_TOKENS = 2, 3, 4, 128
ROUNDINGS = 16.0
"""How many roundings apart the two may be."""


def attend_pairs(q: Tensor, k: Tensor, v: Tensor, pairs: BlockPairs) -> Tensor:
    """Attend as `masked.attend_pairs`, by the kernel for this device.

    A rehearsal gathers, which takes the most memory.
    """
    if q.device.type != "cuda" or flex_declines(q.device, q.dtype, q.shape[-1]):
        return gathered.attend_pairs(q, k, v, pairs)
    from . import flex

    return flex.attend_pairs(q, k, v, pairs)


@functools.cache
def flex_declines(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Why FlexAttention is not used for such tensors, or None; a process finds out once."""
    reason = flex_reason(device) or _trial(device, dtype, head_dim)
    if reason is not None:
        logger.info("Blocks of keys are gathered, since FlexAttention %s.", reason)
    return reason


def _trial(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Why FlexAttention fails on a small case; None where it gives what gathering gives."""
    try:
        from . import flex

        q, k, v, pairs = _trial_inputs(device, dtype, head_dim)
        expected = gathered.attend_pairs(q, k, v, pairs)
        difference = (flex.attend_pairs(q, k, v, pairs).float() - expected.float()).abs()
    except Exception as error:  # whatever a compiler raises: gathering does the same
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"does not compile here ({lines[0][:200].rstrip('.')})"
    allowed = ROUNDINGS * torch.finfo(dtype).eps * (1 + expected.float().abs())
    return None if bool((difference <= allowed).all()) else "gives other values here"


def _trial_inputs(
    device: torch.device, dtype: torch.dtype, head_dim: int
) -> tuple[Tensor, Tensor, Tensor, BlockPairs]:
    """Random q, k, v, and pairs of which one block of queries has none, and one all."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(TRIAL_HEADS, blocks, BLOCK_TOKENS, head_dim, generator=generator)
        .to(device, dtype)
        for blocks in (TRIAL_QUERIES, TRIAL_KEYS, TRIAL_KEYS)
    )  # fmt: skip
    table = torch.zeros(TRIAL_HEADS, TRIAL_QUERIES, TRIAL_KEYS, dtype=torch.bool)
    table[:, 1], table[0, 2, 1], table[1, 2, 2:] = True, True, True
    return q, k, v, BlockPairs(table.to(device), TRIAL_QUERIES * TRIAL_KEYS)
