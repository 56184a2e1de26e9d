"""Reads, of the far frames of a history, those that the queries of a pass attend to most.

A frame's estimate is the softmax of the queries' products with the mean key of each frame of the
history, averaged over queries and heads. Every batch row chooses for itself, so that guidance
branches together and one by one read the same frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..machine.uploads import upload, upload_numbers
from .layout import AttentionInputs

MAX_QUERIES = 512
"""Queries that choose, evenly spaced: neighbours in a picture look for the same frames."""
ROUNDING = 1e-9
MIXED = -1  # batch rows differ in the frame of these keys


def retrieve_frames(inputs: AttentionInputs, shares: Sequence[float]) -> AttentionInputs:
    """The inputs with a part of the frames whose entry of `shares` is below 1, in each batch row.

    All entries below 1 are equal; at least one of these frames stays. The frames retrieved come
    first.
    """
    far = [slot for slot, share in enumerate(shares) if share < 1]
    if not far:
        return inputs
    count = max(1, math.ceil(min(shares) * len(far) - ROUNDING))
    estimate = frame_estimates(inputs)[:, far]
    ranks = estimate.topk(count, dim=-1).indices.sort(dim=-1).values  # (b, count)
    retrieved = upload(torch.tensor(far), ranks.device)[ranks]
    near = [slot for slot, share in enumerate(shares) if share >= 1]
    return _select(inputs, retrieved, near)


def frame_estimates(inputs: AttentionInputs) -> Tensor:
    """The estimated share (b, f) of the queries' attention to the history that each frame holds."""
    mean_keys = inputs.keys[:, :, : inputs.past].unflatten(2, (-1, inputs.frame_tokens)).mean(3)
    stride = -(-inputs.q.shape[2] // MAX_QUERIES)
    logits = inputs.q[:, :, ::stride] @ mean_keys.mT * inputs.q.shape[-1] ** -0.5
    estimate: Tensor = logits.float().softmax(-1).mean((1, 2))
    return estimate


def _select(inputs: AttentionInputs, retrieved: Tensor, near: Sequence[int]) -> AttentionInputs:
    """The frames `retrieved` (b, count) of each row, those `near`, and the active keys."""
    tokens, rows = inputs.frame_tokens, len(retrieved)
    frames = torch.cat([retrieved, upload_numbers(near, retrieved).expand(rows, -1)], 1)
    places = torch.arange(tokens, device=frames.device)
    own = torch.arange(inputs.past, inputs.keys.shape[2], device=frames.device)
    past = (frames.unsqueeze(-1) * tokens + places).flatten(1)
    at = torch.cat([past, own.expand(rows, -1)], 1)[:, None]  # (b, 1, t)
    bias = inputs.bias
    return replace(
        inputs,
        keys=_take(inputs.keys, at),
        values=_take(inputs.values, at),
        bias=None if bias is None else bias.gather(2, at.expand(*bias.shape[:2], -1)),
        past=past.shape[1],
        frames=[*[MIXED] * retrieved.shape[1], *(inputs.frames[slot] for slot in near)],
    )


def _take(x: Tensor, at: Tensor) -> Tensor:
    """The rows `at` (b, 1, t) of x (b, n, s, d)."""
    return x.gather(2, at.unsqueeze(-1).expand(-1, x.shape[1], -1, x.shape[3]))
