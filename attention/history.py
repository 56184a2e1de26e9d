"""What the sampling loop and the host ask of a history, whatever keeps it, and how one is opened.

A new kind of cache implements `HistoryCache` and has its own policy; `open_cache` and
`planned_bytes` are the only places that tell kinds apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .ann.choice import open_index
from .cache import kv_cache
from .cache.bank_cache import BankCache
from .cache.heavy_hitters import AttendedCache, HeadCache
from .cache.policy import CachePolicy, MemoryBank, MostAttended
from .cache.prompt_keys import PromptKeys
from .layout import HistoryAttention
from .rope import Rotation
from .snapshot import Snapshot
from .storage.dense import Storage
from .storage.shape import CacheShape
from .temp_cache import cache
from .temp_cache.policy import TempCache


class HistoryCache(Protocol):
    """Keys and values of finished latent frames, for all layers and guidance branches.

    Only `commit`, `restart`, `retain`, `clear` and `restore` change the history.
    """

    shape: CacheShape
    device: torch.device
    committed: int
    """Latent frames ever committed."""
    forgotten: int
    """How often all keys were: frames that come after may have the numbers of those before."""

    @property
    def held(self) -> list[int]:
        """The latent frame in each slot."""

    @property
    def positions(self) -> list[int]:
        """Window-relative position of the frame in each slot."""

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device, exactly as planned."""

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of what lies in main memory or files instead."""

    @property
    def dropped(self) -> bool:
        """Whether the memory was given back."""

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> HistoryAttention:
        """What that many active latent frames, at `positions`, may look at: the history and
        themselves.
        """

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """What finished latent frames look at in the pass whose keys are committed next."""

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) held for `layer`, in slot order."""

    def rotation(self, positions: Sequence[int]) -> Rotation:
        """The rotation of latent frames at window-relative `positions`."""

    def commit(
        self, keys_values: Sequence[tuple[Tensor, Tensor]], prompt: PromptKeys | None = None
    ) -> None:
        """Append finished latent frames: un-rotated k and v (b, f s, n, d) of every layer; and what
        they were made to, where the policy follows the prompt.
        """

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""

    def restart(self) -> None:
        """The frames held will be committed again, oldest first, in place of what there is."""

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those of the held `frames`."""

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""

    def restore(self, snapshot: Snapshot) -> None:
        """Go on, bit for bit, from what `snapshot` gave in a cache of the same settings."""

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""

    def drop(self) -> None:
        """Give all memory back."""


def open_cache(
    shape: CacheShape,
    policy: CachePolicy,
    storage: Storage,
    length: int | None,
    device: torch.device | str,
) -> HistoryCache:
    """An empty history for a rollout of `length` latent frames; None has no end."""
    match policy:
        case MostAttended(per_head=True):
            return HeadCache(shape, policy, length, device, storage)
        case MostAttended():
            return AttendedCache(shape, policy, length, device, storage)
        case MemoryBank():
            return BankCache(shape, policy, length, device, storage)
        case TempCache():
            index = open_index(policy.searches_by, shape, policy.kernel)
            return cache.MergedCache(shape, policy, index, device, storage, length)
        case _:
            return kv_cache.KVCache(shape, policy, length, device, storage)


def planned_bytes(
    shape: CacheShape, policy: CachePolicy, storage: Storage, length: int | None
) -> int:
    """What `bytes` of the opened cache will be, exactly; a history without bound or end only
    starts there.
    """
    if isinstance(policy, TempCache):
        index = open_index(policy.searches_by, shape)
        return cache.planned_bytes(shape, policy, index, storage, length)
    return kv_cache.planned_bytes(shape, policy, length, storage)
