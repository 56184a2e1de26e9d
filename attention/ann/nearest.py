"""The nearest cached key of the same head, by cosine: what every index answers, and exact search.

An index codes each cached key once; the cache keeps the codes beside the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

KEY_BLOCK = 4096
"""Keys compared at once, so that similarities of all pairs never exist together."""


@dataclass(frozen=True, slots=True)
class Coded:
    """Cached keys (b, n, t, d), their codes (b, n, t, w), and which may be found (b, n, t)."""

    keys: Tensor
    codes: Tensor
    open: Tensor


@dataclass(frozen=True, slots=True)
class Nearest:
    """For each new key the cosine (b, n, s) to the nearest cached one, -inf if there is none, and
    that one's number.
    """

    similarity: Tensor
    number: Tensor


class Index(Protocol):
    """Finds nearest keys. Layers do not share what an index learns."""

    code_width: int
    """How many values the code of a key has."""
    code_dtype: torch.dtype

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """The codes (b, n, s, w) of keys (b, n, s, d) that are about to be cached."""

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: Coded) -> Nearest:
        """The nearest of the `cached` keys for each key of `new` (b, n, s, d) with its `codes`."""

    def saved(self) -> dict[str, Tensor]:
        """What it has learnt, by name."""

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Know just what `saved` gave; an empty one forgets all."""


class LearnsNothing:
    """For an index that is the same whatever it has seen."""

    def saved(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """There is nothing to know."""


class Exact(LearnsNothing):
    """Every pair is compared, in blocks of cached keys."""

    code_width = 0
    code_dtype = torch.int8

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """Nothing is coded."""
        return keys.new_empty(*keys.shape[:-1], 0, dtype=self.code_dtype)

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: Coded) -> Nearest:
        """The nearest of all."""
        return nearest_by(new, cached.keys, cached.open)


def nearest_by(new: Tensor, keys: Tensor, allowed: Tensor) -> Nearest:
    """Brute force: the best cosine of new (b, n, s, d) to keys (b, n, t, d) where `allowed`
    (b, n, t) or (b, n, s, t).
    """
    unit = F.normalize(new.float(), dim=-1)
    best = none_found(new)
    for first in range(0, keys.shape[2], KEY_BLOCK):
        at = slice(first, first + KEY_BLOCK)
        part = keys[:, :, at].float()
        scale = part.norm(dim=-1).clamp(min=1e-12).reciprocal()
        cosine = (unit @ part.transpose(2, 3)) * scale.unsqueeze(2)
        ok = allowed[..., at]
        cosine = cosine.masked_fill(~(ok if ok.ndim == 4 else ok.unsqueeze(2)), -torch.inf)
        best = better(best, cosine, first)
    return best


def none_found(new: Tensor) -> Nearest:
    """Nothing is near any key of `new` (b, n, s, d)."""
    shape = new.shape[:-1]
    return Nearest(
        torch.full(shape, -torch.inf, device=new.device),
        torch.zeros(shape, dtype=torch.long, device=new.device),
    )


def better(best: Nearest, cosine: Tensor, first: int) -> Nearest:
    """`best`, or what is nearer in `cosine` (b, n, s, t) to the keys from `first` on; among equals
    the first.
    """
    similarity, number = cosine.max(-1)
    nearer = similarity > best.similarity
    return Nearest(
        torch.where(nearer, similarity, best.similarity),
        torch.where(nearer, number + first, best.number),
    )
