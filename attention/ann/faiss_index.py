"""Nearest keys by FAISS (github.com/facebookresearch/faiss): flat or inverted lists, CPU or GPU.

FAISS is an optional package: `faiss-cpu` or, where a GPU wheel exists, `faiss-gpu-cu12`. This index
stores neither codes of keys nor trained lists: every search builds and trains an index of a head's
current keys. So it serves as a reference for the others. The k-means index keeps its lists and the
code that a key got when it was cached.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .nearest import CodedKeys, Nearest, StatelessIndex, no_match

POINTS_PER_LIST = 39
"""Fewest points on which FAISS trains a list without a warning."""
GPU_SCRATCH_BYTES = 2**28
"""Scratch memory of all GPU searches, outside a rollout's plan; FAISS's default is 1.5 GiB."""


def faiss_unavailable_reason() -> str | None:
    """Why FAISS cannot be used, or None."""
    if importlib.util.find_spec("faiss") is None:
        return "faiss is not installed (pip install faiss-cpu, or faiss-gpu-cu12 for CUDA)"
    return None


class Faiss(StatelessIndex):
    """Flat search, or inverted `lists` of which `probes` are searched."""

    code_width = 0
    code_dtype = torch.int8

    def __init__(self, lists: int = 0, probes: int = 8) -> None:
        self.lists, self.probes = lists, probes
        self._faiss: Any = importlib.import_module("faiss")
        self._resources: Any = None  # scratch memory, from the first GPU search on

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
                allowed = cached.allowed[b, n].nonzero().flatten()
                if len(allowed):
                    keys = F.normalize(cached.keys[b, n, allowed].float(), dim=-1)
                    queries = F.normalize(new[b, n].float(), dim=-1)
                    cosine, at = self._search(queries, keys)
                    matches.similarity[b, n] = cosine.to(new.device)
                    matches.number[b, n] = allowed[at.to(new.device).clamp(min=0)]
        return matches

    def move_to(self, index: Any, device: torch.device) -> Any:
        """FAISS's `index` on `device`, or as it is if this FAISS has no GPU support."""
        faiss = self._faiss
        if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
            return index
        if self._resources is None:
            self._resources = faiss.StandardGpuResources()
            self._resources.setTempMemory(GPU_SCRATCH_BYTES)
        return faiss.index_cpu_to_gpu(self._resources, device.index or 0, index)

    def _search(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and number of the best of keys (t, d) for each of queries (s, d).

        The cosine is -inf where the searched lists are empty.
        """
        index = self._index(keys)
        cosine, at = index.search(queries.cpu().contiguous().numpy(), 1)
        similarity, number = torch.from_numpy(cosine[:, 0]), torch.from_numpy(at[:, 0])
        return similarity.masked_fill(number < 0, -torch.inf), number

    def _index(self, keys: Tensor) -> Any:
        """An index of unit keys (t, d)."""
        faiss, d = self._faiss, keys.shape[1]
        index = faiss.IndexFlatIP(d)
        lists = min(self.lists, len(keys) // POINTS_PER_LIST)
        if lists > 1:
            index = faiss.IndexIVFFlat(index, d, lists, faiss.METRIC_INNER_PRODUCT)
            index.nprobe = self.probes
        index = self.move_to(index, keys.device)
        points = keys.cpu().contiguous().numpy()
        if lists > 1:
            index.train(points)
        index.add(points)
        return index
