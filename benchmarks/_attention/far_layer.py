"""One layer of Wan 1.3B at 832x480 over a window, and over memories of 200 latent frames.

Attention runs in the engine's own caches, with random keys, for a chunk of three latent frames and
three of the twelve heads. The time of attention is linear in the heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ...attention.cache.kv_cache import KVCache
from ...attention.cache.policy import WindowSink
from ...attention.recall.content import ContentCache
from ...attention.recall.window import RecallWindow
from ...attention.storage.dense import KeysValues
from ...attention.storage.shape import CacheShape
from ...samplers.history.extent import HistoryExtent
from ...samplers.rules.memory import MemoryRules
from ...samplers.rules.reading import ReadingMoment
from .._shared.paired import Prepare
from .far_recall import (
    FAR_STORAGE,
    RECALL,
    RECALL_FRAMES,
    RECALL_STORAGE,
    WINDOW_FRAMES,
    far_rules,
)
from .wan_shaped import WAN_1_3B

MEMORY, ROWS, COLUMNS, STEPS, CHUNK = 200, 30, 52, 4, 3
HEADS = 3
WHOLE_HEADS, HEAD_DIM, LAYERS = WAN_1_3B.num_heads, 128, WAN_1_3B.num_layers
WINDOW_PASS, NEAR_PASS, FAR_PASS, LINEAR = "window", "near", "far", "linear"
RECALL_PASS, RENEWAL = "window with 9 recalled", "commit and recall of 9 others"


def wan_shape(heads: int, layers: int, dtype: torch.dtype, *, hold_rotated: bool) -> CacheShape:
    """Return the cache sizes of 1.3B at 832x480 with some of its heads and layers."""
    return CacheShape(layers, 1, heads, HEAD_DIM, ROWS, COLUMNS, CHUNK, dtype, hold_rotated)


def recalling(memory_frames: int) -> RecallWindow:
    """Return the recalling window whose archive and newest frames are so many."""
    return replace(RECALL, archive_frames=memory_frames - RECALL.newest_frames)


class LayerBench:
    """The caches of one layer, filled with random keys, and the queries of one chunk."""

    def __init__(self, memory_frames: int = MEMORY, share: float = 0.25) -> None:
        shape = wan_shape(HEADS, 1, torch.float32, hold_rotated=True)
        self.rules = far_rules(WINDOW_FRAMES, share)
        self.shape, self.memory_frames = shape, memory_frames
        self.window = KVCache(shape, WindowSink(WINDOW_FRAMES))
        policy = recalling(memory_frames)
        self.recall = ContentCache(shape, policy, None, storage=RECALL_STORAGE)
        _fill(self.window, shape, WINDOW_FRAMES)
        _fill(self.recall, shape, memory_frames)
        tokens = CHUNK * shape.frame_tokens
        self.q, self.k, self.v = _random(0, 3, 1, tokens, HEADS, HEAD_DIM)
        self.renew()
        config, heads = WAN_1_3B, HEADS / WHOLE_HEADS
        self.x = _random(1, tokens, config.dim)
        self.square = _random(2, round(heads * config.dim), config.dim)
        self.wide = _random(3, round(heads * config.ffn_dim), config.dim)

    def cases(self) -> dict[str, Prepare]:
        """Return what is timed: passes over each memory, the linear layers, and a new choice."""
        runs: dict[str, Callable[[], object]] = {
            WINDOW_PASS: lambda: self.window.attention(CHUNK)(0, self.q, self.k, self.v),
            NEAR_PASS: lambda: self.attend(0),
            FAR_PASS: lambda: self.attend(STEPS - 1),
            RECALL_PASS: lambda: self.recall.attention(CHUNK)(0, self.q, self.k, self.v),
            LINEAR: self.multiply,
            RENEWAL: self.renew,
        }
        return {name: lambda run=run: run for name, run in runs.items()}  # type: ignore[misc]

    @cached_property
    def memory(self) -> KVCache:
        """The memory that is read far and near."""
        policy = WindowSink(self.memory_frames)
        memory = KVCache(self.shape, policy, None, storage=FAR_STORAGE)
        _fill(memory, self.shape, self.memory_frames)
        return memory

    def attend(self, step: int) -> Tensor:
        """Attend in one step, as the last layer does, under the rules."""
        ends = HistoryExtent(self.memory.next_frame, 0, 1)
        moment = ReadingMoment(CHUNK, step, STEPS)
        attention = ends.weigh(
            self.memory.attention(CHUNK), self.rules.of_denoising, moment, range(CHUNK)
        )
        return attention(0, self.q, self.k, self.v)

    def multiply(self) -> list[Tensor]:
        """Multiply as the linear layers do for these heads: six square ones and two wide ones."""
        outputs = [F.linear(self.x, self.square) for _ in range(6)]
        wide = F.linear(self.x, self.wide)
        return [*outputs, wide, wide @ self.wide]

    def renew(self) -> None:
        """Commit a chunk, score all archived frames, and recall as many as can be, all new."""
        self.recall.commit([(self.k, self.v)])
        past = sorted(self.recall.archive.frames)
        self.recall.scores(past)
        others = [frame for frame in past if frame not in self.recall.recalled]
        self.recall.recall(others[:RECALL_FRAMES])


def passes(memory: MemoryRules) -> tuple[int, int]:
    """Return how many of a chunk's layer passes, commit included, read near and far."""
    far = 0 if memory.far is None else memory.far.last_steps * len(
        memory.far.reading_layers(LAYERS)
    )  # fmt: skip
    return LAYERS * (STEPS + 1) - far, far


def _fill(cache: KVCache, shape: CacheShape, frames: int) -> None:
    for frame in range(frames):
        cache.commit(_frame(shape, frame))


def _frame(shape: CacheShape, frame: int) -> KeysValues:
    """Return random keys and values of one latent frame."""
    k, v = _random(frame + 9, 2, 1, shape.frame_tokens, shape.heads, shape.head_dim)
    return [(k, v)]


def _random(seed: int, *size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))
