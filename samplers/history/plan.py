"""The KV caches that a rollout needs, with exact bytes, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ...attention import history
from ...attention.cache.placed_windows import DistantSink
from ...attention.cache.policy import CachePolicy, WindowSink
from ...attention.history import HistoryCache
from ...attention.rope import Turn
from ...attention.states import cache as states
from ...attention.states.cache import StateCache
from ...attention.storage.dense import Storage
from ...attention.storage.packed import with_placement
from ...attention.storage.shape import CacheShape
from ...model.action_sizes import with_beside
from ...model.forward import ModelConfig
from ...model.recurrent.config import RecurrentConfig
from ..guidance import (
    ALL,
    AgeRange,
    AllFrames,
    Branch,
    FrameSelection,
    NoFrames,
    Prompt,
    SinkFrames,
    View,
)
from ..guidance.prompt import order
from ..settings import RolloutSettings

FillMode = Literal["committed", "rebuilt", "noise"]
"""How a cache comes by its content: each chunk is committed once; or what it shows is committed
again before each chunk; or it holds pure noise, as long as the history and made once per prompt.
"""


@dataclass(frozen=True, slots=True)
class CacheRow:
    """One batch row of a cache: the prompt and the noise level of its commits."""

    prompt: Prompt
    level: float


@dataclass(frozen=True, slots=True)
class CachePlan:
    """One KV cache; `frames` selects the part of the history that it holds."""

    fill_mode: FillMode
    frames: FrameSelection
    rows: tuple[CacheRow, ...]
    shape: CacheShape
    policy: CachePolicy
    storage: Storage

    def computing(self, turn: Turn, products: torch.dtype) -> CachePlan:
        """The same cache, whose keys and queries are rotated by `turn`, and multiplied in the dtype
        of `products`.
        """
        return replace(self, shape=replace(self.shape, turn=turn, products=products))

    def planned_bytes(self, length: int | None) -> int:
        """The cache's bytes in a rollout of `length` latent frames."""
        return history.planned_bytes(self.shape, self.policy, self.storage, length)

    def planned_offloaded(self, length: int | None) -> int:
        """The cache's bytes in main memory or files."""
        return history.planned_offloaded(self.shape, self.policy, self.storage, length)

    def open(self, length: int | None, device: torch.device) -> HistoryCache:
        """Open the cache, without content."""
        return history.open_cache(self.shape, self.policy, self.storage, length, device)


@dataclass(frozen=True, slots=True)
class StatePlan(CachePlan):
    """The history of a recurrent model: one state, whatever the length; nothing is evicted."""

    def planned_bytes(self, length: int | None) -> int:
        """Bytes of the states of all layers and rows."""
        return states.planned_bytes(self.shape)

    def planned_offloaded(self, length: int | None) -> int:
        """0: a state stays on the device."""
        return 0

    def open(self, length: int | None, device: torch.device) -> HistoryCache:
        """Open the states of a shot that has not begun."""
        return StateCache(self.shape, device)


def cache_plans(
    settings: RolloutSettings, config: ModelConfig, dtype: torch.dtype
) -> tuple[CachePlan, ...]:
    """The caches of a rollout; the first holds the whole history.

    The order of the branches changes neither caches nor rows, and so no bits.
    """
    rows_by_source: dict[tuple[FillMode, FrameSelection], list[CacheRow]] = {}
    for branch in settings.guidance.all_branches:
        if not isinstance(branch.view.frames, NoFrames):
            rows = rows_by_source.setdefault(source(branch.view, settings), [])
            row = row_of(branch)
            if row not in rows:
                rows.append(row)
    base, prompts = source(ALL, settings), settings.guidance.prompts
    read_by_none = settings.guidance.base if settings.guidance.base in prompts else prompts[0]
    rows_by_source.setdefault(base, [CacheRow(read_by_none, 0.0)])
    others = sorted((key for key in rows_by_source if key != base), key=_cache_order)
    return tuple(
        _plan(*key, tuple(sorted(rows_by_source[key], key=_order)), settings, config, dtype)
        for key in (base, *others)
    )


def _cache_order(key: tuple[FillMode, FrameSelection]) -> tuple[bool, str]:
    fill_mode, seen = key
    return fill_mode == "noise", str(seen)


def _order(row: CacheRow) -> tuple[float, tuple[bool, str]]:
    return row.level, order(row.prompt)


def planned_bytes(settings: RolloutSettings, config: ModelConfig, dtype: torch.dtype) -> int:
    """Exact bytes of all KV caches; an unbounded full history only starts there."""
    return bytes_of(cache_plans(settings, config, dtype), settings.length)


def bytes_of(plans: Iterable[CachePlan], length: int | None) -> int:
    """Exact bytes of the planned caches in a rollout of `length` latent frames."""
    return sum(plan.planned_bytes(length) for plan in plans)


def row_of(branch: Branch) -> CacheRow:
    """The cache row that a branch reads."""
    return CacheRow(branch.view.commit_prompt or branch.prompt, branch.view.level)


def source(view: View, settings: RolloutSettings) -> tuple[FillMode, FrameSelection]:
    """The cache that a view reads: its fill mode and its part of the history."""
    if view.pure_noise:
        return "noise", AllFrames()
    if view.rebuilt:
        return "rebuilt", view.frames
    rebuilt = settings.context_noise.recommits or settings.cache.rebuilt
    return "rebuilt" if rebuilt else "committed", AllFrames()


def _plan(  # noqa: PLR0913
    fill_mode: FillMode,
    seen: FrameSelection,
    rows: tuple[CacheRow, ...],
    settings: RolloutSettings,
    config: ModelConfig,
    dtype: torch.dtype,
) -> CachePlan:
    policy = _policy(fill_mode, seen, settings.cache)
    shape = CacheShape(
        layers=config.num_layers,
        batch=len(rows),
        heads=config.num_heads,
        head_dim=config.head_dim,
        rows=settings.rows // config.patch,
        columns=settings.columns // config.patch,
        chunk_frames=settings.pass_frames,
        dtype=dtype,
        hold_rotated=settings.hold_rotated and not policy.moves_keys,
    )
    storage = with_placement(settings.storage, settings.placement)
    kind = StatePlan if isinstance(config, RecurrentConfig) else CachePlan
    shape = with_beside(shape, config.action)
    return kind(fill_mode, seen, rows, shape, policy, storage)


def _policy(fill_mode: FillMode, seen: FrameSelection, whole: CachePolicy) -> CachePolicy:
    """The policy of a cache for a part of the history; it never keeps more than the whole."""
    window = DistantSink if whole.keeps_distances else WindowSink
    match seen:
        case AgeRange():
            count = seen.oldest - seen.newest + 1
            return window(count if whole.limit is None else min(count, whole.limit))
        case SinkFrames():
            return window(max(1, whole.sink_frames))
        case _ if fill_mode == "committed" or (fill_mode == "rebuilt" and whole.rebuilt):
            return whole
        case _:
            return whole.when_rebuilt()
