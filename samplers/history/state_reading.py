"""How a pass reads the state beside its history, where the KV cache keeps one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...attention.delta.cache import DeltaCache
from ...attention.delta.state import DeltaState
from ...attention.delta.window import DeltaWindow
from ...attention.history import HistoryCache
from ...errors import Unsupported
from ...model.forward import ModelConfig
from ..settings import RolloutSettings
from .selection import CacheView, neighbours


@dataclass(frozen=True, slots=True)
class StateRows:
    """The state that some neighbouring batch rows of a pass read, `count` of them.

    `rows` are those of the cache; a state of None answers nothing.
    """

    count: int
    state: DeltaState | None
    rows: slice


@dataclass(frozen=True, slots=True)
class StateOfRows:
    """Reads the states of all rows of a pass, in order."""

    parts: Sequence[StateRows]

    def __call__(self, layer: int, q: Tensor) -> Tensor:
        """What the states answer to un-rotated queries q (b, f s, n, d), shaped alike."""
        answers, start = [], 0
        for part in self.parts:
            own = q[start : start + part.count]
            start += part.count
            is_blind = part.state is None
            answers.append(own.new_zeros(own.shape) if is_blind else _read(part, layer, own))
        return answers[0] if len(answers) == 1 else torch.cat(answers)


def _read(part: StateRows, layer: int, q: Tensor) -> Tensor:
    assert part.state is not None
    return part.state.read(layer, q, part.rows)


def state_of_views(
    views: Sequence[CacheView], caches: Sequence[HistoryCache]
) -> StateOfRows | None:
    """What the views of one pass read: a state goes with a whole history, not with a part."""
    parts = []
    for run in neighbours(views):
        first = run[0]
        state = None if first.slots is not None else state_of_cache(caches[first.cache])
        parts.append(StateRows(len(run), state, slice(first.row, first.row + len(run))))
    return StateOfRows(parts) if any(part.state for part in parts) else None


def state_of_cache(cache: HistoryCache) -> DeltaState | None:
    """The state beside a KV cache, unless it is empty or the cache has none."""
    if isinstance(cache, DeltaCache) and not cache.state.is_empty:
        return cache.state
    return None


def check_state(settings: RolloutSettings, config: ModelConfig) -> None:
    """Refuse a state beside the window for a model without layers for it."""
    if isinstance(settings.cache, DeltaWindow) and config.state == "none":
        raise Unsupported(
            "The KV cache writes what leaves its window into a state, and this model has no "
            "layers to read one",
            "state",
        )
