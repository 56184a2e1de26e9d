"""Sparse attention of a rollout while it is hot: over its KV caches, and to its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..attention.ann.choice import open_buckets
from ..attention.history import HistoryCache
from ..attention.layout import HistoryAttention
from ..attention.snapshot import Snapshot, join
from ..attention.sparse.blocks import TIME_ORDERS
from ..attention.sparse.key_codes import SlotCodes, entry_codes
from ..attention.sparse.prompt_attention import SparsePrompt
from ..attention.sparse.self_attention import Codes, SparseHistory
from ..attention.sparse.stats import SparseStats
from ..attention.sparse.thresholds import measured_on
from ..attention.temp_cache.cache import MergedCache
from ..attention.views import PartOfHistory, ReachingBack, SideBySide
from ..model.dit import SelfAttention
from .history.caches import CacheView
from .history.plan import CachePlan
from .settings import RolloutSettings


class SparseRollout:
    """What the settings ask for over `caches`; where they ask for nothing, attention is dense."""

    def __init__(
        self, settings: RolloutSettings, plans: Sequence[CachePlan], caches: Sequence[HistoryCache]
    ) -> None:
        sparsity = measured_on(settings.sparsity, caches[0].device)
        self_sparsity, prompt_sparsity = sparsity.self_sparsity, sparsity.prompt_sparsity
        self.stats = SparseStats()
        self.to_prompt = None if prompt_sparsity is None else SparsePrompt(prompt_sparsity)
        self._codes: list[SlotCodes] = []
        self._histories: list[SparseHistory] = []
        if self_sparsity is None:
            return
        for plan, cache in zip(plans, caches, strict=True):
            self._histories.append(
                SparseHistory(
                    self_sparsity,
                    self.stats,
                    sink_frames=settings.cache.sink_frames,
                    min_keys=self_sparsity.min_keys or 0,
                    codes=self._codes_of(plan, cache, self_sparsity.order),
                )
            )

    def over(
        self, cache: int, attention: HistoryAttention, progress: Sequence[float]
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
        return join({}, {str(i): codes.snapshot() for i, codes in enumerate(self._codes)})

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
        return self._codes[-1].of_layer


@dataclass(frozen=True, slots=True)
class PassVisibility:
    """The latent frames of a pass, in its order: how many of them, from the front, each may look
    at, where each stands and the first place it may look at, both counted from the first active
    frame. `lowest` is empty where nothing is too far back. `progress` is the share of their steps
    that they have behind them.
    """

    visible: Sequence[int]
    offsets: Sequence[int]
    lowest: Sequence[int]
    progress: Sequence[float]

    def through(
        self, places: Sequence[CacheView], caches: Sequence[HistoryCache], sparse: SparseRollout
    ) -> SelfAttention:
        """What all `places` look at in one pass, neighbouring cache rows together."""
        runs: list[list[CacheView]] = []
        for place in places:
            if runs and place.follows(runs[-1][-1]):
                runs[-1].append(place)
            else:
                runs.append([place])
        parts = [(len(run), self._of(run, caches[run[0].cache], sparse)) for run in runs]
        return parts[0][1] if len(parts) == 1 else SideBySide(parts)

    def _of(
        self, run: Sequence[CacheView], cache: HistoryCache, sparse: SparseRollout
    ) -> SelfAttention:
        at, slots = run[0].at, run[0].slots
        rows = slice(run[0].row, run[0].row + len(run))
        positions = [at + offset for offset in self.offsets]
        if self.lowest:
            chosen = range(len(cache.held)) if slots is None else slots
            lowest = [at + offset for offset in self.lowest]
            return ReachingBack(cache, self.visible, rows, chosen, positions, lowest)
        if slots is None:
            whole = cache.attention(len(positions), self.visible, rows=rows, positions=positions)
            return sparse.over(run[0].cache, whole, self.progress)
        return PartOfHistory(cache, self.visible, rows, slots, positions)
