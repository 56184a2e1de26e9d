"""A rehearsal of a whole shot: every piece, every commit, the full length."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from longtake.attention.cache.prompt_keys import PromptKeys
from longtake.attention.history import HistoryCache
from longtake.attention.storage.quantize import Float8, Integers
from longtake.model.memory import META
from longtake.model.shape_memo import ShapeMemo
from longtake.samplers.history.filler import CacheFiller
from longtake.samplers.history.plan import CachePlan
from longtake.samplers.planning import memory, rehearsal

WITH_PIECES = (
    "rope", "pieces", "ann.int8", "ann.nearest", "storage.packed", "temp_cache.novelty",
    "temp_cache.rotated_keys",
)  # fmt: skip
REMEMBER = ShapeMemo.call
CODECS = Integers, Float8


@contextmanager
def whole_rehearsals() -> Iterator[None]:
    """Leave nothing out of rehearsals: the reference for what they leave out."""
    with pytest.MonkeyPatch.context() as patch:
        for name in WITH_PIECES:
            module = importlib.import_module(f"longtake.attention.{name}")
            patch.setattr(module, "piece_starts", lambda total, size, x: range(0, total, size))
        patch.setattr(rehearsal.RehearsalFiller, "rebuild", CacheFiller.rebuild)
        patch.setattr(rehearsal, "_fill_cache", _commit_all)
        patch.setattr(memory, "shorter_shots", lambda settings: None)
        patch.setattr(ShapeMemo, "call", lambda _, func, args, named: func(*args, **named))
        yield


def _commit_all(plan: CachePlan, cache: HistoryCache, count: int, commits: int) -> None:
    """Fill a cache commit by commit, before anything is measured.

    Only the cache outlives this. So what its commits compute beside may be inferred from memory.
    The cache copies a frame's codes, so that frames of equal shapes may share them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShapeMemo, "call", REMEMBER)
        for codec in CODECS:
            patch.setattr(codec, "encode", _once_by_shape(codec.encode))
        _commit_each(plan, cache, count, commits)


def _once_by_shape(encode: Any) -> Any:
    """An encoder of tensors without content that gives equal shapes the same result."""
    codes: dict[Any, Any] = {}

    def remembered(codec: Any, *parts: torch.Tensor) -> Any:
        key = codec, *((x.shape, x.dtype, x.is_meta) for x in parts)
        if key not in codes:
            codes[key] = encode(codec, *parts)
        return codes[key]

    return remembered


def _commit_each(plan: CachePlan, cache: HistoryCache, count: int, commits: int) -> None:
    s = plan.shape
    asked = PromptKeys((torch.empty(s.heads, s.head_dim, device=META),) * s.layers)
    most = s.chunk_frames if plan.policy.keeps_leavers else count  # frames of one commit
    for _ in range(commits):
        for first in range(0, count, most):
            tokens = min(most, count - first) * s.frame_tokens
            kv = torch.empty(s.batch, tokens, s.heads, s.head_dim, device=META)
            cache.commit([(kv, kv)] * s.layers, asked)


class Counter:
    """Counts calls of a function that it stands for."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.function(*args, **kwargs)
