"""A window that fetches past latent frames again, before each chunk.

A frame that leaves the window goes to an archive in main memory. `recall` copies frames of the
archive into the window, where they count as any other frame: at their rank in time, and so within
the range of positions that the model was trained for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..cache import kv_cache
from ..cache.kv_cache import KVCache
from ..snapshot import Snapshot
from ..storage.archive import FrameArchive, archive_codec, planned_archive_bytes
from ..storage.dense import DENSE, KeysValues, Storage
from ..storage.shape import CacheShape
from .window import RecallWindow, archive_slots


def planned_offloaded(
    shape: CacheShape, policy: RecallWindow, length: int | None, storage: Storage = DENSE
) -> int:
    """Exact value of `RecallCache.offloaded_bytes`; without bound or end it only starts there."""
    window = kv_cache.planned_offloaded(shape, policy, length, storage)
    return window + planned_archive_bytes(shape, storage, archive_slots(policy, length))


class RecallCache(KVCache):
    """A history of a sink, frames recalled and the newest ones, with an archive of the others."""

    policy: RecallWindow

    def __init__(
        self,
        shape: CacheShape,
        policy: RecallWindow,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        slots, codec = archive_slots(policy, length), archive_codec(storage)
        self.archive = FrameArchive(shape, codec, slots, policy.archive_frames, self.device)
        self.recalled: list[int] = []

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or files: those of the archive, and of a window kept there."""
        return 0 if self.dropped else super().offloaded_bytes + self.archive.bytes

    @property
    def unfetched(self) -> list[int]:
        """The frames of the window that never left it, in no order."""
        return [frame for frame in self.slots.kept_frames if frame not in self.recalled]

    def recall(self, frames: Sequence[int]) -> None:
        """Have these `frames` of the archive in the window, in place of those recalled before.

        Raises ValueError for frames that are not archived or more than the policy recalls.
        """
        missing = [frame for frame in frames if frame not in self.archive.frames]
        if missing or len({*frames}) > self.policy.recall_frames:
            raise ValueError(
                f"at most {self.policy.recall_frames} archived latent frames can be recalled; got "
                f"{[*frames]}, not archived are {missing}"
            )
        coming = [frame for frame in sorted({*frames}) if frame not in self.recalled]
        leaving = [frame for frame in self.recalled if frame not in frames]
        if not coming and not leaving:
            return
        self._make_room(leaving, len(coming))
        for frame in coming:
            self._put(frame, leaving.pop(0) if leaving else None, self.archive.get(frame))
        self.recalled = sorted({*frames})
        self.rotated_keys.follow()

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined, up to one before the window
        is full; for rehearsals.
        """
        super().assume(frames)
        present, p = sorted(self.slots.kept_frames), self.policy
        count = len(present) - p.sink_frames - p.newest_frames + 1
        self.recalled = present[p.sink_frames :][: max(0, min(count, p.recall_frames))]

    def clear(self) -> None:
        """Forget the history and the archive; the next commit is of frame 0 again."""
        super().clear()
        self._forget_past()

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`, and empty the archive.

        Frames that were fetched again go with it.
        """
        super().retain([frame for frame in frames if frame not in self.recalled])
        self._forget_past()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on, the archive included."""
        window = super().snapshot()
        facts = {"recalled": [*self.recalled], "archived": [*self.archive.frames]}
        tensors = {**window.tensors, **self.archive.state()}
        return Snapshot(tensors, {**window.facts, **facts})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        super().restore(snapshot)
        self.recalled = [*snapshot.facts["recalled"]]
        self.archive.restore(snapshot.facts["archived"], snapshot.tensors)

    def move(self, device: torch.device | str) -> None:
        """Take the window to `device`, bit for bit; the archive stays in main memory."""
        super().move(device)
        if not self.dropped:
            self.archive.move(self.device)

    def drop(self) -> None:
        """Free all tensors; the cache cannot be used any more."""
        super().drop()
        del self.archive

    def _keep(self, frame: int, layers: KeysValues) -> int:
        """Put a frame into a kept slot; the oldest of the newest ones may leave for the archive."""
        slots, p = self.slots.kept_slots, self.policy
        newest = [f for f in slots if f >= p.sink_frames and f not in self.recalled]
        if len(newest) < p.newest_frames - self._store.recent or frame < p.sink_frames:
            return self._put(frame, None, layers)
        oldest = min(newest)
        if p.recall_frames:
            self._archive(oldest)
        return self._put(frame, oldest, layers)

    def _archive(self, frame: int) -> None:
        slot, store = self.slots.kept_slots.index(frame), self._store
        layers = range(self.shape.layers)
        self.archive.put(frame, (store.frame(layer, slot) for layer in layers))

    def _put(self, frame: int, in_place_of: int | None, layers: KeysValues) -> int:
        """Write a frame into the slot of another, or behind all kept slots; return the slot."""
        slots = self.slots.kept_slots
        slot = len(slots) if in_place_of is None else slots.index(in_place_of)
        self._write(slot, layers)
        slots[slot : slot + 1] = [frame]
        return slot

    def _make_room(self, leaving: list[int], coming: int) -> None:
        """Drop those of the frames `leaving` whose slots the `coming` ones do not take."""
        surplus = leaving[coming:]
        if surplus:
            stay = [frame for frame in self.slots.kept_frames if frame not in surplus]
            self._store.select(*self.slots.select(stay))
            self.rotated_keys.forget()
            del leaving[coming:]

    def _forget_past(self) -> None:
        self.recalled = []
        self.archive.clear()
