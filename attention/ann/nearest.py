"""Search for the nearest cached key of the same head by cosine: the interface and exact search.

An index codes each cached key once; the cache stores the codes beside the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pieces import piece_starts

KEY_BLOCK = 4096
"""Cached keys compared at once, so that the similarities of all pairs never exist together."""


@dataclass(frozen=True, slots=True)
class CodedKeys:
    """Cached keys (b, n, t, d), their codes (b, n, t, w), and which a search may find (b, n, t)."""

    keys: Tensor
    codes: Tensor
    allowed: Tensor


@dataclass(frozen=True, slots=True)
class Nearest:
    """For each new key the cosine (b, n, s) to the nearest cached key, and that key's number.

    The cosine is -inf where no key was found.
    """

    similarity: Tensor
    number: Tensor


class Index(Protocol):
    """Finds nearest keys; each layer has its own state."""

    code_width: int
    """Values in the code of a key."""
    code_dtype: torch.dtype

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """The codes (b, n, s, w) of keys (b, n, s, d) that are about to be cached."""

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: CodedKeys) -> Nearest:
        """The nearest `cached` key for each key of `new` (b, n, s, d), given its `codes`."""

    def state(self) -> dict[str, Tensor]:
        """The learnt state, by name."""

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Replace the state by what `state` returned; an empty mapping resets it."""


class StatelessIndex:
    """Base of indexes that learn nothing."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Nothing to replace: `state` is always empty."""


class Exact(StatelessIndex):
    """Compares every pair, in blocks of cached keys."""

    code_width = 0
    code_dtype = torch.int8

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """Codes (b, n, s, 0): the search compares the keys themselves."""
        return keys.new_empty(*keys.shape[:-1], 0, dtype=self.code_dtype)

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: CodedKeys) -> Nearest:
        """The nearest of all allowed keys."""
        return nearest_by(new, cached.keys, cached.allowed)


def nearest_by(new: Tensor, keys: Tensor, allowed: Tensor) -> Nearest:
    """Brute force: the best cosine of new (b, n, s, d) to the allowed keys of (b, n, t, d).

    `allowed` is (b, n, t) or (b, n, s, t).
    """
    unit = F.normalize(new.float(), dim=-1)
    best = no_match(new)
    for first in piece_starts(keys.shape[2], KEY_BLOCK, keys):
        at = slice(first, first + KEY_BLOCK)
        part = keys[:, :, at].float()
        scale = part.norm(dim=-1).clamp(min=1e-12).reciprocal()
        cosine = (unit @ part.transpose(2, 3)) * scale.unsqueeze(2)
        ok = allowed[..., at]
        cosine = cosine.masked_fill(~(ok if ok.ndim == 4 else ok.unsqueeze(2)), -torch.inf)
        best = update_best(best, cosine, first)
    return best


def no_match(new: Tensor) -> Nearest:
    """The result of a search that found nothing for any key of `new` (b, n, s, d)."""
    shape = new.shape[:-1]
    return Nearest(
        torch.full(shape, -torch.inf, device=new.device),
        torch.zeros(shape, dtype=torch.long, device=new.device),
    )


def update_best(best: Nearest, cosine: Tensor, first: int) -> Nearest:
    """`best`, updated where `cosine` (b, n, s, t) to keys from `first` on is strictly higher."""
    similarity, number = cosine.max(-1)
    nearer = similarity > best.similarity
    return Nearest(
        torch.where(nearer, similarity, best.similarity),
        torch.where(nearer, number + first, best.number),
    )
