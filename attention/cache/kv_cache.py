"""The KV cache: keys and values of finished latent frames, in preallocated slots.

Keys are stored un-rotated and rotated when read, at positions counted from the oldest frame still
held, so a stream has no last position and no seam. While a chunk is denoised the history is only
read: the chunk's own keys and values go to scratch slots behind it. `commit` alone adds to the
history and evicts. Its policy says which frame gives way, its store how frames are kept; which slot
holds which latent frame is plain integers, and no layer keeps a cursor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..dense import parts
from ..layout import AttentionInputs, attend_inputs
from ..rope import LatestRotation, Rotation, rotate, rotate_into, rotation
from ..snapshot import Snapshot
from ..storage.dense import DENSE, Storage, frame_slice
from ..storage.shape import CacheShape
from . import sink_average
from .policy import CachePolicy, capacity
from .prompt_keys import PromptKeys
from .sink_average import SinkMeans

KeysValues = Sequence[tuple[Tensor, Tensor]]
"""k and v (b, s, n, d) of every layer."""


def planned_bytes(
    shape: CacheShape, policy: CachePolicy, length: int | None, storage: Storage = DENSE
) -> int:
    """What `KVCache.bytes` will be, exactly; an unbounded full history only starts there."""
    stored = storage.planned_bytes(shape, *_slots(policy, length))
    return stored + sink_average.planned_bytes(shape, policy.averaged_frames)


def planned_offloaded(
    shape: CacheShape, policy: CachePolicy, length: int | None, storage: Storage = DENSE
) -> int:
    """What `KVCache.offloaded_bytes` will be, exactly."""
    return storage.planned_offloaded(shape, *_slots(policy, length))


def _slots(policy: CachePolicy, length: int | None) -> tuple[int, int]:
    """How many latent frames are stored, and how many of them are never newest."""
    beside = policy.beside_frames
    return capacity(policy, length) + beside, policy.sink_frames + beside


class KVCache:
    """The history of one rollout for all layers and guidance branches."""

    def __init__(
        self,
        shape: CacheShape,
        policy: CachePolicy,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        self.shape, self.policy, self.device = shape, policy, torch.device(device)
        self.committed = 0  # latent frames ever committed
        self.forgotten = 0  # how often all keys were
        self.dropped = False  # memory given back; the history must be committed again, anew
        self._store = storage.open(shape, *_slots(policy, length), self.device)
        self._means = SinkMeans(shape, policy.averaged_frames, self.device)
        self._kept: list[int] = []  # slot -> latent frame
        self._recent: list[int] = []  # the same for the slots that a frame goes through first
        self._past: Rotation | None = None  # of the history, until the next commit
        self._now = LatestRotation()  # of active frames
        self._turned: set[int] = set()  # layers whose rotated copy of the history is up to date

    @property
    def held(self) -> list[int]:
        """The latent frame in each slot, in the order in which the history is laid out."""
        return [*self._kept, *self._recent]

    def frames_in_layout(self, layer: int) -> list[int]:
        """The latent frames that `layer` looks at, in the order in which they are laid out; as
        many in every layer.
        """
        return self.held

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device, scratch and rotated copies included."""
        return 0 if self.dropped else self._store.bytes + self._means.bytes

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or files, where the storage is placed there."""
        return 0 if self.dropped else self._store.offloaded_bytes

    @property
    def positions(self) -> list[int]:
        """Window-relative position of the frame in each slot: its rank among the frames held."""
        order = {frame: rank for rank, frame in enumerate(sorted(self.held))}
        return [order[frame] for frame in self.held]

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> CachedAttention:
        """What `frames` active latent frames may look at: the history and themselves.

        `visible`: how many of the active ones, from the front, each may look at; without it, all.
        `rows` are the batch rows that attend; `positions` are those of the active frames where they
        do not follow on the history.
        """
        visible = self.shape.visible(frames, visible)
        after = range(len(self.held), len(self.held) + frames)
        return CachedAttention(self, visible, rows, positions or after)

    def attention_of_commit(self, visible: Sequence[int]) -> CachedAttention:
        """What finished latent frames look at in the pass whose keys are committed next."""
        return self.attention(len(visible), visible)

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) held for `layer`, in slot order.

        Valid until the next layer is read.
        """
        keys, values = self._store.read(layer, len(self._kept), len(self._recent))
        return keys, values[:, : keys.shape[1]]

    def rotation(self, positions: Sequence[int]) -> Rotation:
        """The rotation of latent frames at window-relative `positions`."""
        return rotation(
            positions, self.shape.rows, self.shape.columns, self.shape.head_dim, self.device
        )

    def rotation_now(self, positions: Sequence[int]) -> Rotation:
        """The same of active frames, for which every step of a chunk asks."""
        s = self.shape
        return self._now.of(positions, s.rows, s.columns, s.head_dim, self.device)

    def workspace(self, layer: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of `layer`: history in front, scratch for active frames behind.

        Views of the batch `rows`, valid until the next layer is read.

        Where the store holds rotated keys the history is rotated once between two commits, else at
        every call.
        """
        store = self._store
        past, values = store.read(layer, len(self._kept), len(self._recent))
        rotated = store.rotated(layer)
        if layer not in self._turned:
            wanted = slice(None) if store.holds_rotated else rows
            rotate_into(rotated[wanted], past[wanted], self._turn(layer))
            if store.holds_rotated:
                self._turned.add(layer)
        return rotated[rows], values[rows]

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames, evicting as the policy says.

        `keys_values` holds un-rotated k and v (b, f s, n, d) of every layer, `prompt` what they
        were made to, for a policy that asks.
        """
        count = keys_values[0][0].shape[1] // self.shape.frame_tokens
        self._reserve(self.committed + count)
        for i in range(count):
            at = frame_slice(self.shape, i)
            self._append(self._number(), [(k[:, at], v[:, at]) for k, v in keys_values])
        self._forget_rotated()

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        self.committed = 0
        self.forgotten += 1
        self._kept.clear()
        self._recent.clear()
        self._forget_rotated()

    def restart(self) -> None:
        """The frames held will be committed again, oldest first, in place of what there is."""
        self.clear()

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those of the held `frames`."""
        kept, recent = (
            [slot for slot, frame in enumerate(slots) if frame in frames]
            for slots in (self._kept, self._recent)
        )
        self._store.select(kept, recent)
        self._kept = [self._kept[slot] for slot in kept]
        self._recent = [self._recent[slot] for slot in recent]
        self._forget_rotated()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on: what is stored, as it is stored, and for what."""
        facts = {
            "committed": self.committed, "kept": list(self._kept), "recent": list(self._recent),
            "recent_slots": self._store.recent,
        }  # fmt: skip
        stored = self._store.saved(len(self._kept), len(self._recent))
        return Snapshot({**stored, **self._means.saved()}, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on, bit for bit, from what `snapshot` gave in a cache of the same settings.

        ValueError where it does not fit, as after a rollout that was planned much shorter.
        """
        facts = snapshot.facts
        self._reserve(facts["committed"])
        slots = self._store.kept, self._store.recent
        if len(facts["kept"]) > slots[0] or facts["recent_slots"] != slots[1]:
            raise ValueError(
                f"a snapshot of {len(facts['kept'])} + {facts['recent_slots']} latent frames does "
                f"not fit a cache of {slots[0]} + {slots[1]}"
            )
        self.committed = facts["committed"]
        self._kept, self._recent = list(facts["kept"]), list(facts["recent"])
        self._store.restore(snapshot.tensors)
        self._means.restore(snapshot.tensors)
        self._forget_rotated()

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit; compute only where the model is."""
        self.device = torch.device(device)
        self._past = None
        if self.dropped:
            return
        self._store.move(self.device)
        self._means.move(self.device)

    def drop(self) -> None:
        """Give all memory back."""
        self.dropped = True
        del self._store, self._means
        self._past = None

    def _number(self) -> int:
        """Of the latent frame that is committed next."""
        self.committed += 1
        return self.committed - 1

    def _append(self, frame: int, layers: KeysValues) -> None:
        """Take one latent frame in; where there are recent slots, the oldest in them moves on."""
        store = self._store
        if not store.recent:
            self._keep(frame, layers)
            return
        cell = len(self._recent)
        if cell == store.recent:
            cell = self._recent.index(min(self._recent))
            oldest = [store.frame(i, store.kept + cell) for i in range(self.shape.layers)]
            self._keep(self._recent[cell], oldest)
        self._write(store.kept + cell, layers)
        self._recent[cell : cell + 1] = [frame]

    def _keep(self, frame: int, layers: KeysValues) -> None:
        slot = len(self._kept)
        if slot == self._store.kept:
            slot = self._victim()
            self._average(slot)
        self._write(slot, layers)
        self._taken(slot)
        if frame < self._means.frames:
            for layer, (k, v) in enumerate(layers):
                self._means.start(layer, frame, k, v)
        self._kept[slot : slot + 1] = [frame]

    def _victim(self) -> int:
        """The kept slot whose frame gives way."""
        return self.policy.victim(self._kept)

    def _taken(self, slot: int) -> None:
        """Another frame lies in a kept slot now."""

    def _turn(self, layer: int) -> Rotation:
        """The rotation of the history's keys."""
        if self._past is None:
            self._past = self.rotation(self.positions)
        return self._past

    def _average(self, slot: int) -> None:
        """Let the sink have its part of the frame in `slot`, which is about to be evicted."""
        if not self._means.frames:
            return
        sink, decay = self._kept[slot] % self._means.frames, self.policy.sink_decay
        evicted = (self._store.frame(layer, slot) for layer in range(self.shape.layers))
        blended = [self._means.blend(i, sink, kv, decay) for i, kv in enumerate(evicted)]
        self._write(self._kept.index(sink), blended)

    def _write(self, slot: int, layers: KeysValues) -> None:
        for layer, (k, v) in enumerate(layers):
            self._store.write(layer, slot, k, v)

    def _forget_rotated(self) -> None:
        self._past = None
        self._turned.clear()

    def _reserve(self, frames: int) -> None:
        """Grow a history without bound that had no planned end; a window never grows."""
        slots = self._store.kept + self._store.recent
        if self.policy.limit is not None or frames <= slots:
            return
        self._store.grow(max(frames, 2 * slots) - self._store.recent)


class CachedAttention:
    """Self-attention of the active latent frames over the history and themselves.

    Active frame i sees the first `visible[i]` active ones. Frames that see as many in a row are one
    call over a slice of the keys, so no mask is ever made. Valid until the next commit.
    """

    def __init__(
        self, cache: KVCache, visible: Sequence[int], rows: slice, positions: Sequence[int]
    ) -> None:
        self.cache, self.rows = cache, rows
        tokens = cache.shape.frame_tokens
        self._now = cache.rotation_now(positions)
        self._past_tokens = len(cache.frames_in_layout(0)) * tokens
        self._parts = parts(visible, 0, tokens)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        return attend_inputs(self.laid(layer, q, k, v)).transpose(1, 2)

    def laid(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        """History, then active frames, in the cache's own memory; valid until the next layer."""
        past = self._past_tokens
        stop = past + k.shape[1]
        keys, values = self.cache.workspace(layer, self.rows)
        keys[:, past:stop] = rotate(k, self._now)
        values[:, past:stop] = v
        turned, mine, theirs = (
            x.transpose(1, 2) for x in (rotate(q, self._now), keys[:, :stop], values[:, :stop])
        )
        frames, tokens = self.cache.frames_in_layout(layer), self.cache.shape.frame_tokens
        return AttentionInputs(turned, mine, theirs, None, past, self._parts, frames, tokens)
