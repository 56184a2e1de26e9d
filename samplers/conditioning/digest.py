"""A short hash of what a user gives, by which chunks of other inputs have other addresses."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def embedding_digest(embedding: Tensor) -> str:
    """A short hash of an embedding's values, for chunk addresses."""
    values = embedding.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    return hashlib.sha256(values).hexdigest()[:16]
