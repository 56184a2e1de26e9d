"""A recalling window that knows what its archived frames hold.

A frame's summary is the mean of its keys in every layer and head. The queries of the newest commit
score the summaries, as FAST-AR's retrieval scores frames (see `attention/retrieval.py`). Keys and
queries are un-rotated, so that places in time do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..cache.prompt_keys import PromptKeys
from ..layout import HistoryAttention
from ..snapshot import Snapshot
from ..storage.dense import DENSE, KeysValues, Storage
from ..storage.shape import CacheShape
from . import cache as recall_cache
from .cache import RecallCache
from .window import RecallWindow, archive_slots

SAMPLED_QUERIES = 32
"""Evenly spaced queries of a commit that score the summaries."""


def planned_offloaded(
    shape: CacheShape, policy: RecallWindow, length: int | None, storage: Storage = DENSE
) -> int:
    """Exact value of `ContentCache.offloaded_bytes`; it may only start there, as the archive."""
    archive = recall_cache.planned_offloaded(shape, policy, length, storage)
    values = shape.layers * shape.batch * shape.heads * shape.head_dim
    return archive + archive_slots(policy, length) * values * torch.float32.itemsize


class ContentCache(RecallCache):
    """A history of sink, recalled and newest frames whose archive has summaries."""

    def __init__(
        self,
        shape: CacheShape,
        policy: RecallWindow,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        home = "meta" if self.device.type == "meta" else "cpu"
        sizes = shape.layers, shape.batch, shape.heads, shape.head_dim
        self._summaries = torch.zeros(archive_slots(policy, length), *sizes, device=home)
        self._queries = torch.zeros(shape.layers, shape.batch, 0, *sizes[2:], device=home)
        self._by_layer: list[Tensor] = []  # queries of the pass before a commit

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or files, those of the summaries included."""
        return 0 if self.dropped else super().offloaded_bytes + self._summaries.nbytes

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """Attention of finished frames, whose queries are kept for the next choice."""
        self._by_layer = []
        return replace(super().attention_of_commit(visible), prepare=self.note_queries)

    def note_queries(self, layer: int, q: Tensor) -> None:
        """Keep some of the un-rotated queries (b, s, n, d) of the next layer of a commit's pass."""
        stride = -(-q.shape[1] // SAMPLED_QUERIES)
        self._by_layer.append(q[:, ::stride].float().to(self._summaries.device))

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames; their pass's queries score frames from now on."""
        super().commit(keys_values, prompt)
        if self._by_layer:
            self._queries, self._by_layer = torch.stack(self._by_layer), []

    def scores(self, frames: Sequence[int]) -> list[float]:
        """The share of the queries' attention that each of these archived frames would get."""
        slots = torch.tensor([self.archive.frames.index(frame) for frame in frames])
        means = self._summaries[slots].permute(1, 2, 3, 0, 4)  # (layers, b, n, f, d)
        queries = self._queries.transpose(2, 3)  # (layers, b, n, s, d)
        logits = queries @ means.mT * self.shape.head_dim**-0.5
        return [float(share) for share in logits.softmax(-1).mean((0, 1, 2, 3))]

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        before = super().snapshot()
        means = self._summaries[: len(self.archive.frames)].clone()
        own = {"means": means, "queries": self._queries.clone()}
        return Snapshot({**before.tensors, **own}, before.facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        super().restore(snapshot)
        means = snapshot.tensors["means"]
        self._reserve_means()
        self._summaries[: len(means)] = means
        self._queries = snapshot.tensors["queries"].clone()

    def _archive(self, frame: int) -> None:
        super()._archive(frame)
        self._reserve_means()
        slot, store = self.slots.kept_slots.index(frame), self._store
        keys = (store.frame(layer, slot)[0] for layer in range(self.shape.layers))
        means = torch.stack([k.float().mean(1) for k in keys])  # (layers, b, n, d)
        self._summaries[self.archive.frames.index(frame)] = means.to(self._summaries.device)

    def _reserve_means(self) -> None:
        """Have as many summaries as the archive has slots."""
        missing = self.archive.slots - len(self._summaries)
        if missing > 0:
            more = self._summaries.new_zeros(missing, *self._summaries.shape[1:])
            self._summaries = torch.cat([self._summaries, more])
