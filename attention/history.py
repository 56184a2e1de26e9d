"""The interface of a KV cache to the sampling loop and the host, and how a cache is opened.

A new kind of cache implements `HistoryCache` and has its own policy. Only `_kind` and its table
distinguish the kinds: an entry says how the cache is opened, and what it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .ann.choice import open_index
from .cache import kv_cache
from .cache.beside import BesideCache
from .cache.by_layer.bank_cache import BankCache
from .cache.by_layer.dummy_heads import DummyHeadCache, DummyHeads
from .cache.by_layer.heavy_hitters import HeavyHitterCache, PerHeadCache
from .cache.by_layer.tether import TetherCache
from .cache.by_layer.tethered_cache import TetheredCache
from .cache.frame_cache import FrameNumbers
from .cache.placed_windows import SharedWindow
from .cache.policy import CachePolicy, MemoryBank, MostAttended
from .cache.prompt_keys import PromptKeys
from .cache.shared_window import SharedWindowCache
from .coarse import cache as coarse_cache
from .coarse.cache import CoarseCache
from .coarse.window import CoarseWindow
from .delta import cache as delta_cache
from .delta.cache import DeltaCache
from .delta.window import DeltaWindow
from .layout import PassAttention
from .recall import cache as recall_cache
from .recall import content as content_cache
from .recall.cache import RecallCache
from .recall.content import ContentCache
from .recall.window import RecallWindow
from .snapshot import Snapshot
from .storage.dense import KeysValues, Storage
from .storage.shape import CacheShape
from .temp_cache import cache as merged_cache
from .temp_cache.cache import MergedCache
from .temp_cache.policy import TempCache


class HistoryCache(FrameNumbers, Protocol):
    """Keys and values of finished latent frames, for all layers and guidance branches.

    Only `commit`, `restart`, `retain`, `clear` and `restore` change the history.
    """

    shape: CacheShape
    device: torch.device
    generation: int
    """Counts how often the history was forgotten; later frames may repeat earlier numbers."""
    dropped: bool
    """Whether the memory was freed."""

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device, exactly as planned."""

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or files."""

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> PassAttention:
        """Attention of `frames` active latent frames at `positions` to history and themselves."""

    def attention_of_commit(self, visible: Sequence[int]) -> PassAttention:
        """Attention of finished latent frames in the pass whose keys are committed next."""

    def is_coarse(self, frames: int) -> bool:
        """Whether the next `frames`, committed together, become coarse tokens."""

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) held for `layer`, in slot order."""

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames: un-rotated k and v (b, f s, n, d) of every layer.

        `prompt` is the prompt of the frames; only policies with `follows_prompt` need it.
        """

    def leave_gap(self, frames: int) -> None:
        """Leave so many positions between the sink and the window, which change no key stored."""

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined; for rehearsals."""

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""

    def restart(self, frames: Sequence[int] = ()) -> None:
        """Forget the frames held; `frames` of the rollout will be committed again, oldest first."""

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`."""

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""

    def drop(self) -> None:
        """Free all tensors; the cache cannot be used any more."""


Plan = Callable[[CacheShape, Any, int | None, Storage], int]
"""(shape, policy, length, storage) -> bytes; an unbounded history may only start there."""


@dataclass(frozen=True, slots=True)
class CacheKind:
    """How the cache of a policy is opened, and the exact bytes that it takes."""

    open: Callable[[CacheShape, Any, int | None, torch.device | str, Storage], HistoryCache]
    bytes: Plan = kv_cache.planned_bytes
    offloaded: Plan = kv_cache.planned_offloaded


def _kind(shape: CacheShape, policy: CachePolicy) -> CacheKind:
    match policy:
        case MostAttended():
            return CacheKind(PerHeadCache if policy.per_head else HeavyHitterCache)
        case RecallWindow(by="content"):
            return CacheKind(ContentCache, offloaded=content_cache.planned_offloaded)
        case _:
            plain = CacheKind(BesideCache if shape.beside else kv_cache.KVCache)
            return next((kind for of, kind in _KINDS.items() if isinstance(policy, of)), plain)


def open_cache(
    shape: CacheShape,
    policy: CachePolicy,
    storage: Storage,
    length: int | None,
    device: torch.device | str,
) -> HistoryCache:
    """An empty history for a rollout of `length` latent frames; None has no end."""
    return _kind(shape, policy).open(shape, policy, length, device, storage)


def planned_bytes(
    shape: CacheShape, policy: CachePolicy, storage: Storage, length: int | None
) -> int:
    """Exact value of `bytes` of the opened cache.

    A history without bound or end grows beyond it.
    """
    beside = planned_bytes(shape.beside, policy, storage, length) if shape.beside else 0
    return _kind(shape, policy).bytes(shape, policy, length, storage) + beside


def planned_offloaded(
    shape: CacheShape, policy: CachePolicy, storage: Storage, length: int | None
) -> int:
    """Exact value of `offloaded_bytes` of the opened cache.

    A history or an archive without bound or end grows beyond it.
    """
    beside = planned_offloaded(shape.beside, policy, storage, length) if shape.beside else 0
    return _kind(shape, policy).offloaded(shape, policy, length, storage) + beside


def _open_merged(
    shape: CacheShape,
    policy: TempCache,
    length: int | None,
    device: torch.device | str,
    storage: Storage,
) -> MergedCache:
    index = open_index(policy.effective_index, shape, policy.kernel)
    return MergedCache(shape, policy, index, device, storage, length)


def _merged_bytes(
    shape: CacheShape, policy: TempCache, length: int | None, storage: Storage
) -> int:
    index = open_index(policy.effective_index, shape)
    return merged_cache.planned_bytes(shape, policy, index, storage, length)


_KINDS: Mapping[type[CachePolicy], CacheKind] = {
    DummyHeads: CacheKind(DummyHeadCache),
    SharedWindow: CacheKind(SharedWindowCache),
    MemoryBank: CacheKind(BankCache),
    TetherCache: CacheKind(TetheredCache),
    DeltaWindow: CacheKind(DeltaCache, delta_cache.planned_bytes),
    RecallWindow: CacheKind(RecallCache, offloaded=recall_cache.planned_offloaded),
    CoarseWindow: CacheKind(
        CoarseCache, coarse_cache.planned_bytes, coarse_cache.planned_offloaded
    ),
    TempCache: CacheKind(_open_merged, _merged_bytes),
}
"""The kinds that a policy's class alone decides."""
