"""Sparse self-attention over the KV caches of a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...attention.ann.choice import open_buckets
from ...attention.history import HistoryCache
from ...attention.layout import key_reader
from ...attention.snapshot import Snapshot, join
from ...attention.sparse.blocks import TIME_ORDERS
from ...attention.sparse.key_codes import SlotCodes, entry_codes, entry_numbers
from ...attention.sparse.self_attention import Codes, SparseHistory
from ...attention.sparse.stats import SparseStats
from ...attention.sparse.thresholds import apply_measurements
from ...attention.temp_cache.cache import MergedCache
from ...model.dit import SelfAttention
from ..settings import RolloutSettings
from .plan import CachePlan


class SparseCaches:
    """Applies the self-attention sparsity of `settings` to each cache.

    Where the settings ask for none, or none is faster on this device, attention stays dense.
    """

    def __init__(
        self, settings: RolloutSettings, plans: Sequence[CachePlan], caches: Sequence[HistoryCache]
    ) -> None:
        self._stats = SparseStats()
        self._codes: list[SlotCodes] = []
        self._histories: list[SparseHistory] = []
        sparsity = apply_measurements(settings.sparsity, caches[0].device).self_sparsity
        if sparsity is None:
            return
        for plan, cache in zip(plans, caches, strict=True):
            self._histories.append(
                SparseHistory(
                    sparsity,
                    self._stats,
                    sink_frames=settings.cache.sink_frames,
                    min_keys=sparsity.min_keys or 0,
                    codes=self._codes_for(plan, cache, sparsity.order),
                    token_numbers=entry_numbers(cache),
                )
            )

    @property
    def stats(self) -> SparseStats | None:
        """A copy of the totals so far; None where attention is dense."""
        return replace(self._stats) if self._histories else None

    def over(
        self, cache: int, attention: SelfAttention, progress: Sequence[float]
    ) -> SelfAttention:
        """Sparse attention over cache number `cache`, for latent frames at that `progress`."""
        if not self._histories:
            return attention
        return self._histories[cache].over(key_reader(attention), progress)

    def history_changed(self) -> None:
        """Code new keys and forget what was derived from the old history."""
        for codes in self._codes:
            codes.update()
        for history in self._histories:
            history.forget()

    def snapshot(self) -> Snapshot:
        """The keys' codes and what the buckets have learnt."""
        return join({}, {str(i): codes.snapshot() for i, codes in enumerate(self._codes)})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from a snapshot of the same settings."""
        for i, codes in enumerate(self._codes):
            codes.restore(snapshot.part(str(i)))
        for history in self._histories:
            history.forget()

    def _codes_for(self, plan: CachePlan, cache: HistoryCache, order: str) -> Codes | None:
        """The buckets that sort a cache's keys; None for the order of time.

        A cache that is rebuilt before each chunk has no keys that could be coded once.
        """
        if order in TIME_ORDERS or plan.fill_mode != "committed":
            return None
        if isinstance(cache, MergedCache):
            return entry_codes(cache)
        self._codes.append(SlotCodes(cache, open_buckets(order, cache.shape)))
        return self._codes[-1].of_layer
