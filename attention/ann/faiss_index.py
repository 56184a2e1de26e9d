"""Nearest keys by FAISS (github.com/facebookresearch/faiss), an optional package: `faiss-cpu`.

Each head has one flat index for as long as the cache lives. A search first removes the keys that
changed or may not be found any more, and adds new ones; it never builds an index again. The indexes
lie in main memory, also for a cache on a GPU, and take two float32 copies of the keys there, which
a rollout's plan does not contain.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...pip_command import pip_install
from .nearest import CodedKeys, Nearest, StatelessIndex, no_match

Vectors = NDArray[np.float32]
Flags = NDArray[np.bool_]
NEVER = torch.iinfo(torch.long).max
TIED = 4  # matches of which the first slot is taken, so that ties do not go by insertion


def faiss_unavailable_reason() -> str | None:
    """Why FAISS cannot be used, or None."""
    if importlib.util.find_spec("faiss") is None:
        return f"faiss is not installed ({pip_install('faiss-cpu')})"
    return None


class HeadIndex:
    """The unit keys of one head in a FAISS index, by slot."""

    def __init__(self, faiss: Any, width: int) -> None:
        self.index = faiss.IndexIDMap2(faiss.IndexFlatIP(width))
        self._vectors: Vectors = np.empty((0, width), np.float32)
        self._indexed: Flags = np.zeros(0, np.bool_)

    def update(self, vectors: Vectors, allowed: Flags) -> None:
        """Hold exactly the `allowed` of the unit `vectors` (t, d), of slots 0 to t - 1."""
        self._resize(len(vectors))
        same = (self._vectors == vectors).all(1) & self._indexed & allowed
        gone, new = (np.flatnonzero(flags & ~same) for flags in (self._indexed, allowed))
        if len(gone):
            self.index.remove_ids(gone)
        if len(new):
            self.index.add_with_ids(np.ascontiguousarray(vectors[new]), new)
        self._vectors[new] = vectors[new]
        self._indexed = allowed.copy()

    def search(self, queries: Vectors) -> tuple[Tensor, Tensor]:
        """Cosine and slot of the nearest key of each unit query (s, d); the first slot of a tie."""
        cosine, slot = map(torch.from_numpy, self.index.search(queries, TIED))
        tied = (cosine == cosine[:, :1]) & (slot >= 0)
        return cosine[:, 0], slot.masked_fill(~tied, NEVER).amin(1)

    def _resize(self, count: int) -> None:
        """Have room for `count` slots; slots beyond are removed."""
        gone = np.flatnonzero(self._indexed[count:]) + count
        if len(gone):
            self.index.remove_ids(gone)
        more = max(0, count - len(self._vectors))
        self._vectors = np.pad(self._vectors[:count], ((0, more), (0, 0)))
        self._indexed = np.pad(self._indexed[:count], (0, more))


class Faiss(StatelessIndex):
    """Flat search of persistent indexes."""

    code_width = 0
    code_dtype = torch.int8

    def __init__(self) -> None:
        self._faiss: Any = importlib.import_module("faiss")
        self._heads: dict[tuple[int, int, int], HeadIndex] = {}

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """Codes (b, n, s, 0): faiss searches the keys themselves."""
        return keys.new_empty(*keys.shape[:-1], 0, dtype=self.code_dtype)

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: CodedKeys) -> Nearest:
        """The nearest of each head's allowed keys."""
        matches = no_match(new)
        if new.is_meta:  # a rehearsal: allocate a head's unit vectors, as below
            _ = [F.normalize(x[0, 0].float(), dim=-1) for x in (cached.keys, new)]
            return matches
        for b in range(new.shape[0]):
            for n in range(new.shape[1]):
                allowed = cached.allowed[b, n].cpu().numpy()
                if not allowed.any():
                    continue
                index = self._head((layer, b, n), new.shape[3])
                index.update(_unit(cached.keys[b, n]), allowed)
                cosine, slot = index.search(_unit(new[b, n]))
                matches.similarity[b, n] = cosine.to(new.device)
                matches.number[b, n] = slot.to(new.device)
        return matches

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Forget all indexes: other keys lie in the slots."""
        self._heads.clear()

    def _head(self, place: tuple[int, int, int], width: int) -> HeadIndex:
        """The index of a layer's batch row and head."""
        if place not in self._heads:
            self._heads[place] = HeadIndex(self._faiss, width)
        return self._heads[place]


def _unit(keys: Tensor) -> Vectors:
    """Unit vectors of keys (t, d), in main memory."""
    vectors: Vectors = F.normalize(keys.float(), dim=-1).cpu().contiguous().numpy()
    return vectors
