"""The KV cache: keys and values of finished latent frames, in preallocated slots.

Keys are stored un-rotated and rotated when read, each by its distance from the next frame, so a
stream has no last position and no seam. The newest frames are at the places of their own numbers:
a commit moves at most the frames older than those that leave, such as a sink.

Denoising only reads the history; the active frames' keys and values go to scratch slots behind it.
Only `commit` adds frames and evicts. The policy picks the frame to evict; the store decides how
frames are stored. Slot numbers are plain integers, and no layer keeps a cursor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..layout import HistoryAttention
from ..snapshot import Snapshot
from ..storage.dense import DENSE, KeysValues, Storage, Store, frame_slice
from ..storage.shape import CacheShape
from . import sink_average
from .frame_cache import FrameCache
from .policy import CachePolicy, capacity
from .prompt_keys import PromptKeys
from .rotated_keys import RotatedKeys, SlotLayout
from .sink_average import SinkMeans
from .slots import FrameSlots


def planned_bytes(
    shape: CacheShape, policy: CachePolicy, length: int | None, storage: Storage = DENSE
) -> int:
    """Exact value of `KVCache.bytes`; an unbounded full history only starts there."""
    stored = storage.planned_bytes(shape, *_slot_counts(shape, policy, length))
    return stored + sink_average.planned_bytes(shape, policy.averaged_frames)


def planned_offloaded(
    shape: CacheShape, policy: CachePolicy, length: int | None, storage: Storage = DENSE
) -> int:
    """Exact value of `KVCache.offloaded_bytes`."""
    return storage.planned_offloaded(shape, *_slot_counts(shape, policy, length))


def _slot_counts(shape: CacheShape, policy: CachePolicy, length: int | None) -> tuple[int, int]:
    """Latent frames stored, and how many of them may be in recent slots.

    Only the policy limits the recent slots: a chunk's content does not depend on the length. A slot
    is left for frames that move on; in a shot too short for that, none does.
    """
    beside = policy.extra_frames + (shape.chunk_frames if policy.keeps_leavers else 0)
    slots = room = capacity(policy, length)
    if policy.limit is not None:
        room = min(slots, policy.limit - policy.sink_frames - policy.recall_frames - 1)
    return slots + beside, room


class KVCache(FrameCache):
    """The history of one rollout, for all layers and guidance branches."""

    rotated_keys: RotatedKeys

    def __init__(
        self,
        shape: CacheShape,
        policy: CachePolicy,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        self.policy = policy
        self.slots = FrameSlots(policy.sink_frames, keep_distances=policy.keeps_distances)
        super().__init__(shape, self.slots, device)
        self._store = storage.open(shape, *_slot_counts(shape, policy, length), self.device)
        self._means = SinkMeans(shape, policy.averaged_frames, self.device)
        layout = SlotLayout(self.slots, shape)
        self.rotated_keys = RotatedKeys(self._store, self.slots, layout, shape, self.device)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device, including scratch and rotated copies."""
        return 0 if self.dropped else self._store.bytes + self._means.bytes

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or files."""
        return 0 if self.dropped else self._store.offloaded_bytes

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> HistoryAttention:
        """Attention to the history, of frames at the places where they are committed next.

        Frames that are committed again have the places that they had.
        """
        places = positions or self.slots.next_positions(frames)
        return super().attention(frames, visible, rows=rows, positions=places)

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) held for `layer`, in slot order.

        Valid until the next layer is read.
        """
        keys, values = self.rotated_keys.read(layer)
        return keys, values[:, : keys.shape[1]]

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames and evict as the policy says.

        `keys_values` holds un-rotated k and v (b, f s, n, d) of every layer. `prompt` is the prompt
        of the frames; only policies with `follows_prompt` need it.
        """
        count = keys_values[0][0].shape[1] // self.shape.frame_tokens
        _reserve(self._store, self.policy, self.committed + count)
        for i in range(count):
            at = frame_slice(self.shape, i)
            layers = [(k[:, at], v[:, at]) for k, v in keys_values]
            self._append(self.slots.take_number(), layers)
        self.rotated_keys.follow()

    def leave_gap(self, frames: int) -> None:
        """Leave so many positions between the sink and the window."""
        if frames != self.slots.gap:
            self.slots.gap = frames
            self.rotated_keys.follow()

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined; for rehearsals."""
        _reserve(self._store, self.policy, self.committed + frames)
        slots, store = self.slots, self._store
        numbers = sorted(slots.kept_frames) + [slots.take_number() for _ in range(frames)]
        if len(numbers) > store.kept_slots + store.recent:
            raise ValueError(f"{len(numbers)} latent frames do not fit the cache")
        older = max(0, len(numbers) - store.recent)
        slots.kept_slots, slots.recent = numbers[:older], numbers[older:]
        self.rotated_keys.forget()

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        self.generation += 1
        self.slots.clear()
        self.rotated_keys.forget()

    def restart(self, frames: Sequence[int] = ()) -> None:
        """Forget the frames held; `frames` of the rollout will be committed again, oldest first."""
        self.clear()
        if self.policy.keeps_distances:
            self.slots.commit_again(frames)

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`."""
        self._store.select(*self.slots.select(frames))
        self.rotated_keys.forget()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on, in the form in which it is stored."""
        slots = self.slots
        facts = {
            "committed": slots.committed,
            "kept": list(slots.kept_slots),
            "recent": list(slots.recent),
            "recent_slots": self._store.recent,
        }
        stored = self._store.state(len(slots.kept_slots), len(slots.recent))
        return Snapshot({**stored, **self._means.state()}, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings.

        Raises ValueError if the snapshot does not fit, for example if it is of a rollout that was
        planned with another length.
        """
        facts = snapshot.facts
        _reserve(self._store, self.policy, facts["committed"])
        available, slots = (self._store.kept_slots, self._store.recent), facts["recent_slots"]
        moved_on = facts["committed"] > min(slots, available[1])
        if len(facts["kept"]) > available[0] or (moved_on and slots != available[1]):
            raise ValueError(
                f"a snapshot of {len(facts['kept'])} + {slots} latent frames does not "
                f"fit a cache of {available[0]} + {available[1]}"
            )
        self.slots.committed = facts["committed"]
        self.slots.kept_slots, self.slots.recent = list(facts["kept"]), list(facts["recent"])
        self._store.restore(snapshot.tensors)
        self._means.restore(snapshot.tensors)
        self.rotated_keys.forget()

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""
        self.device = torch.device(device)
        if self.dropped:
            return
        self._store.move(self.device)
        self._means.move(self.device)
        self.rotated_keys.move(self.device)

    def drop(self) -> None:
        """Free all tensors; the cache cannot be used any more."""
        self.dropped = True
        del self._store, self._means, self.rotated_keys

    def _append(self, frame: int, layers: KeysValues) -> None:
        """Add one latent frame; if all recent slots are full, their oldest frame moves on."""
        store, recent = self._store, self.slots.recent
        if not store.recent:
            self._keep(frame, layers)
            return
        cell = len(recent)
        if cell == store.recent:
            cell = recent.index(min(recent))
            oldest = _read(store, store.kept_slots + cell, self.shape.layers)
            self._keep(recent[cell], list(oldest))
        self._write(store.kept_slots + cell, layers)
        recent[cell : cell + 1] = [frame]

    def _keep(self, frame: int, layers: KeysValues) -> int:
        """Put one latent frame into a kept slot, evicting if all are full; return the slot."""
        frames, means = self.slots.kept_slots, self._means
        slot = len(frames)
        if slot == self._store.kept_slots:
            slot = self._victim()
            self._leave(slot)
            if means.frames:
                sink, evicted = (
                    frames[slot] % means.frames,
                    _read(self._store, slot, self.shape.layers),
                )
                blended = means.blend(sink, evicted, self.policy.sink_decay)
                self._write(frames.index(sink), blended)
        self._write(slot, layers)
        if frame < means.frames:
            means.start(frame, layers)
        frames[slot : slot + 1] = [frame]
        return slot

    def _write(self, slot: int, layers: KeysValues) -> None:
        """Put one latent frame into a slot of every layer."""
        for layer, (k, v) in enumerate(layers):
            self._store.write(layer, slot, k, v)
        self.rotated_keys.rewritten(slot)

    def _victim(self) -> int:
        """The kept slot whose frame is evicted next."""
        return self.policy.victim(self.slots.kept_slots)

    def _leave(self, slot: int) -> None:
        """Take notice that the frame in a kept slot is evicted; here nothing remembers it."""


def _reserve(store: Store, policy: CachePolicy, frames: int) -> None:
    """Grow an unbounded history that had no planned end; a window never grows."""
    slots = store.kept_slots + store.recent
    if policy.limit is None and frames > slots:
        store.grow(max(frames, 2 * slots) - store.recent)


def _read(store: Store, slot: int, layers: int) -> Iterator[tuple[Tensor, Tensor]]:
    return (store.frame(layer, slot) for layer in range(layers))
