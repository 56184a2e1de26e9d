"""Sparse attention of a rollout while it is hot: over its KV caches, and to its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..attention.ann.choice import open_buckets
from ..attention.history import HistoryCache
from ..attention.layout import LayingAttention
from ..attention.snapshot import Snapshot, joined
from ..attention.sparse.blocks import TIME_ORDERS
from ..attention.sparse.key_codes import SlotCodes, entry_codes
from ..attention.sparse.prompt_attention import SparsePrompt
from ..attention.sparse.self_attention import Codes, SparseHistory
from ..attention.sparse.stats import SparseStats
from ..attention.sparse.thresholds import measured_on
from ..attention.temp_cache.cache import MergedCache
from ..model.dit import SelfAttention
from .cache_plan import CachePlan
from .settings import RolloutSettings


class SparseRollout:
    """What the settings ask for over `caches`; where they ask for nothing, attention is dense."""

    def __init__(
        self, settings: RolloutSettings, plans: Sequence[CachePlan], caches: Sequence[HistoryCache]
    ) -> None:
        sparsity = measured_on(settings.sparsity, caches[0].device)
        of_self, of_prompt = sparsity.of_self, sparsity.of_prompt
        self.stats = SparseStats()
        self.to_prompt = None if of_prompt is None else SparsePrompt(of_prompt)
        self._codes: list[SlotCodes] = []
        self._histories: list[SparseHistory] = []
        if of_self is None:
            return
        for plan, cache in zip(plans, caches, strict=True):
            self._histories.append(
                SparseHistory(
                    of_self,
                    self.stats,
                    sink_frames=settings.cache.sink_frames,
                    fewest_keys=of_self.fewest_keys or 0,
                    codes=self._codes_of(plan, cache, of_self.order),
                )
            )

    def over(
        self, cache: int, attention: LayingAttention, progress: Sequence[float]
    ) -> SelfAttention:
        """`attention` over that cache in a pass of latent frames at that `progress`."""
        if not self._histories:
            return attention
        return self._histories[cache].over(attention, progress)

    @property
    def so_far(self) -> SparseStats | None:
        """What it did until now; None where nothing is asked for."""
        return replace(self.stats) if self._histories else None

    def history_changed(self) -> None:
        """Something was committed, or is about to be made anew."""
        for codes in self._codes:
            codes.update()
        for history in self._histories:
            history.forget()

    def snapshot(self) -> Snapshot:
        """What later chunks depend on: codes that were given, and what the buckets have learnt."""
        return joined({}, {str(i): codes.snapshot() for i, codes in enumerate(self._codes)})

    def restore(self, snapshot: Snapshot) -> None:
        """Go on, bit for bit, from what `snapshot` gave for the same settings."""
        for i, codes in enumerate(self._codes):
            codes.restore(snapshot.part(str(i)))
        for history in self._histories:
            history.forget()

    def _codes_of(self, plan: CachePlan, cache: HistoryCache, order: str) -> Codes | None:
        """The buckets by which a cache's keys are sorted, None for the order of time.

        What is made anew before each chunk has no keys that could be coded once.
        """
        if order in TIME_ORDERS or plan.filled != "by commits":
            return None
        if isinstance(cache, MergedCache):
            return entry_codes(cache)
        self._codes.append(SlotCodes(cache, open_buckets(order, cache.shape)))
        return self._codes[-1].of
