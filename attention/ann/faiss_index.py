"""Nearest keys by FAISS (github.com/facebookresearch/faiss): flat or inverted lists, CPU or GPU.

An optional package: `faiss-cpu` or, where there is a wheel for the GPU, `faiss-gpu-cu12`. It keeps
no state here: a search is given the keys as they are.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .nearest import Coded, LearnsNothing, Nearest, none_found

POINTS_PER_LIST = 39  # the fewest that FAISS trains a list on without a warning


def missing_faiss() -> str | None:
    """Why FAISS cannot be used, or None."""
    if importlib.util.find_spec("faiss") is None:
        return "faiss is not installed (pip install faiss-cpu, or faiss-gpu-cu12 for CUDA)"
    return None


class Faiss(LearnsNothing):
    """Flat search, or inverted `lists` of which `probes` are searched."""

    code_width = 0
    code_dtype = torch.int8

    def __init__(self, lists: int = 0, probes: int = 8) -> None:
        self.lists, self.probes = lists, probes
        self._faiss: Any = importlib.import_module("faiss")

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """FAISS keeps its own."""
        return keys.new_empty(*keys.shape[:-1], 0, dtype=self.code_dtype)

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: Coded) -> Nearest:
        """The nearest of each head's open keys."""
        found = none_found(new)
        if new.is_meta:  # a rehearsal has no numbers: a head's unit vectors, as below
            _ = [F.normalize(x[0, 0].float(), dim=-1) for x in (cached.keys, new)]
            return found
        for b in range(new.shape[0]):
            for n in range(new.shape[1]):
                open_ = cached.open[b, n].nonzero().flatten()
                if len(open_):
                    keys = F.normalize(cached.keys[b, n, open_].float(), dim=-1)
                    queries = F.normalize(new[b, n].float(), dim=-1)
                    cosine, at = self._search(queries, keys)
                    found.similarity[b, n] = cosine.to(new.device)
                    found.number[b, n] = open_[at.to(new.device).clamp(min=0)]
        return found

    def _search(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and number of the best of keys (t, d) for queries (s, d); -inf where no list that
        was searched has one.
        """
        index = self._index(keys)
        cosine, at = index.search(queries.cpu().contiguous().numpy(), 1)
        found, number = torch.from_numpy(cosine[:, 0]), torch.from_numpy(at[:, 0])
        return found.masked_fill(number < 0, -torch.inf), number

    def _index(self, keys: Tensor) -> Any:
        """An index of unit keys (t, d)."""
        faiss, d = self._faiss, keys.shape[1]
        index = faiss.IndexFlatIP(d)
        lists = min(self.lists, len(keys) // POINTS_PER_LIST)
        if lists > 1:
            index = faiss.IndexIVFFlat(index, d, lists, faiss.METRIC_INNER_PRODUCT)
            index.nprobe = self.probes
        if keys.device.type == "cuda" and hasattr(faiss, "StandardGpuResources"):
            index = faiss.index_cpu_to_gpu(
                faiss.StandardGpuResources(), keys.device.index or 0, index
            )
        points = keys.cpu().contiguous().numpy()
        if lists > 1:
            index.train(points)
        index.add(points)
        return index
