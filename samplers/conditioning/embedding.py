"""The embedding of a prompt, in forms that hold little and are computed when a chunk needs them.

An embedding of Wan's takes 8 MB, most of it zeros behind the prompt's words. A shot of hours has
hundreds of prompts. One that blends in is a mixture in every chunk, and so is one whose share
follows music.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from .digest import embedding_digest

MAX_DEPTH = 8
"""Mixtures inside one another; a blend that begins within another one begins with a mixture."""


@dataclass(frozen=True, eq=False)
class Padded:
    """The first `rows` (r, text_dim) of an embedding of `length` rows; all later ones are zeros.

    Nobody changes their numbers, so that the hash is taken once.
    """

    rows: Tensor
    length: int

    @property
    def values(self) -> Tensor:
        """The numbers (length, text_dim)."""
        return F.pad(self.rows, (0, 0, 0, self.length - len(self.rows)))

    @cached_property
    def digest(self) -> str:
        """The hash of the numbers."""
        return embedding_digest(self.values)


@dataclass(frozen=True, eq=False)
class Mixture:
    """`share`, 0 to 1, of `second` (l, text_dim) in the place of as much of `first`.

    `mix` makes one.
    """

    first: Tensor | Padded | Mixture
    second: Tensor | Padded | Mixture
    share: float

    @property
    def values(self) -> Tensor:
        """The numbers (l, text_dim), in the dtype and on the device of the first embedding."""
        first = values_of(self.first)
        return first.lerp(values_of(self.second).to(first), self.share)

    @cached_property
    def digest(self) -> str:
        """A short hash of its parts, for chunk addresses."""
        parts = digest_of(self.first), digest_of(self.second), repr(self.share)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    @cached_property
    def depth(self) -> int:
        """How many mixtures are inside one another, this one included."""
        return 1 + max(depth_of(self.first), depth_of(self.second))


Embedding = Tensor | Padded | Mixture
"""The embedding (l, text_dim) of a prompt, as numbers or as what they are computed of."""


def mix(first: Embedding, second: Embedding, share: float) -> Embedding:
    """`first` with a share of `second` in it, or itself where that changes nothing."""
    if share == 0 or digest_of(first) == digest_of(second):
        return first
    return Mixture(_flattened(first), _flattened(second), share)


def _flattened(embedding: Embedding) -> Embedding:
    """A mixture too deep for another one around it as its numbers."""
    if depth_of(embedding) < MAX_DEPTH:
        return embedding
    values = values_of(embedding)
    return Padded(values, len(values))


def fit(embedding: Tensor, length: int) -> Padded:
    """An embedding (l, text_dim) as one of `length` rows: cut, or padded with zeros.

    A longer one first loses its rows of zeros: joined prompts hold the padding of each.
    """
    if len(embedding) > length:
        embedding = embedding[embedding.any(-1)][:length]
    return Padded(embedding, length)


def without_padding(embedding: Tensor) -> Tensor:
    """The rows of an embedding (l, text_dim) up to the last that is not zeros; one at least."""
    words = embedding.any(-1).nonzero()
    count = 1 + int(words[-1]) if len(words) else 1
    return embedding if count == len(embedding) else embedding[:count].clone()


def depth_of(embedding: Embedding) -> int:
    """How many mixtures are inside one another; 0 where there is none."""
    return embedding.depth if isinstance(embedding, Mixture) else 0


def values_of(embedding: Embedding) -> Tensor:
    """The numbers (l, text_dim) of an embedding."""
    return embedding if isinstance(embedding, Tensor) else embedding.values


def digest_of(embedding: Embedding) -> str:
    """A short hash of an embedding, for chunk addresses; only plain numbers are hashed anew."""
    return embedding_digest(embedding) if isinstance(embedding, Tensor) else embedding.digest
