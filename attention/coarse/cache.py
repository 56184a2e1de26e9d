"""A history of coarse and fine latent frames: two KV caches, filled again before each chunk.

Each cache has its own tokens of a frame; places in time and in the picture are the same in both.
Frames that are committed together are all coarse or all fine, and coarse ones come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..cache import kv_cache
from ..cache.frame_cache import FrameCache
from ..cache.kv_cache import KVCache
from ..cache.policy import WindowSink
from ..cache.prompt_keys import PromptKeys
from ..layout import HistoryAttention
from ..snapshot import Snapshot, join
from ..storage.dense import DENSE, KeysValues, Storage
from ..storage.shape import CacheShape
from .keys import JoinedKeys, JoinedNumbers
from .window import CoarseWindow

COARSE, FINE, LEFT = "coarse", "fine", "left"
COARSER = 2  # rows and columns of fine tokens that a coarse one stands for


def planned_bytes(
    shape: CacheShape, policy: CoarseWindow, length: int | None, storage: Storage = DENSE
) -> int:
    """Exact value of `CoarseCache.bytes`."""
    parts = _parts(shape, policy)
    return sum(kv_cache.planned_bytes(*part, length, storage) for part in parts)


def planned_offloaded(
    shape: CacheShape, policy: CoarseWindow, length: int | None, storage: Storage = DENSE
) -> int:
    """Exact value of `CoarseCache.offloaded_bytes`."""
    parts = _parts(shape, policy)
    return sum(kv_cache.planned_offloaded(*part, length, storage) for part in parts)


def _parts(shape: CacheShape, policy: CoarseWindow) -> list[tuple[CacheShape, WindowSink]]:
    """Sizes and policies of the coarse and of the fine cache, which evict nothing."""
    rows, columns = shape.rows // COARSER, shape.columns // COARSER
    if not rows or not columns:
        raise ValueError(f"a frame of {shape.rows} x {shape.columns} tokens has no coarse ones")
    coarse = replace(shape, rows=rows, columns=columns, step=COARSER * shape.step)
    return [
        (coarse, WindowSink(policy.coarse_slots(shape.chunk_frames))),
        (shape, WindowSink(policy.fine_slots(shape.chunk_frames))),
    ]


class CoarseCache(FrameCache):
    """The history of one rollout under a `CoarseWindow`.

    `restart` tells which frames will be committed again, and so which of them become coarse. Frames
    that are committed without it are fine.
    """

    def __init__(
        self,
        shape: CacheShape,
        policy: CoarseWindow,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        self.policy = policy
        self._coarse, self._fine = (
            KVCache(*part, length, device, storage) for part in _parts(shape, policy)
        )
        numbers = JoinedNumbers(self._coarse, self._fine)
        super().__init__(shape, numbers, device)
        self.rotated_keys = JoinedKeys(numbers)
        self._left: list[int] = []  # frames of the rollout that are to be committed again

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device, of both caches."""
        return self._coarse.bytes + self._fine.bytes

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or files, of both caches."""
        return self._coarse.offloaded_bytes + self._fine.offloaded_bytes

    def is_coarse(self, frames: int) -> bool:
        """Whether the next `frames`, committed together, become coarse; the last ones never do."""
        left = self._left
        return frames < len(left) and self.policy.is_old(left[0], left[-1])

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """Attention of finished frames in the pass whose keys are committed next."""
        if self.is_coarse(len(visible)):
            return self._coarse.attention_of_commit(visible)
        self._begin_fine()
        return super().attention_of_commit(visible)

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Raise ValueError: frames of different sizes have no common layout."""
        raise ValueError("a coarse history is read as a whole")

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames: un-rotated k and v (b, f s, n, d) of every layer."""
        tokens = keys_values[0][0].shape[1]
        count = tokens // self._coarse.shape.frame_tokens
        if self.is_coarse(count):
            self._coarse.commit(keys_values)
        else:
            count = tokens // self.shape.frame_tokens
            self._begin_fine()
            self._fine.commit(keys_values)
        del self._left[:count]

    def leave_gap(self, frames: int) -> None:
        """Raise ValueError for any gap: places in time follow one another."""
        if frames:
            raise ValueError("a coarse history has no gap behind its sink")

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined; for rehearsals."""
        if self.is_coarse(frames):
            self._coarse.assume(frames)
        else:
            self._begin_fine()
            self._fine.assume(frames)
        del self._left[:frames]

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        self.generation += 1
        self._left.clear()
        self._coarse.clear()
        self._fine.clear()

    def restart(self, frames: Sequence[int] = ()) -> None:
        """Forget the frames held; `frames` of the rollout will be committed again, oldest first."""
        self.clear()
        self._left = [*frames]

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`."""
        self._coarse.retain(frames)
        self._fine.retain(frames)
        self._fine.leave_gap(len(self._coarse.kept_frames))

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        parts = {COARSE: self._coarse.snapshot(), FINE: self._fine.snapshot()}
        return join({LEFT: [*self._left]}, parts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        self._coarse.restore(snapshot.part(COARSE))
        self._fine.restore(snapshot.part(FINE))
        self._fine.leave_gap(len(self._coarse.kept_frames))
        self._left = [*snapshot.facts[LEFT]]

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""
        self.device = torch.device(device)
        self._coarse.move(device)
        self._fine.move(device)

    def drop(self) -> None:
        """Free all tensors; the cache cannot be used any more."""
        self.dropped = True
        del self.rotated_keys
        self._coarse.drop()
        self._fine.drop()

    def _begin_fine(self) -> None:
        """Number and place the first fine frame behind the coarse ones."""
        if not self._fine.kept_frames:
            self._fine.slots.committed = len(self._coarse.kept_frames)
            self._fine.leave_gap(len(self._coarse.kept_frames))
