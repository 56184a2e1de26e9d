"""A history in which every layer remembers frames of its own choice between sink and newest ones.

The pass of a commit judges the frames that wait: each layer chooses by that pass's queries, before
its keys are read, and the pass already sees the choice. Only the commit itself writes it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...layout import HistoryAttention
from ...rope import rotate_into
from ...snapshot import Snapshot
from ...storage.dense import DENSE, KeysValues, Storage, frame_slice
from ...storage.shape import CacheShape
from ..kv_cache import KVCache
from ..prompt_keys import PromptKeys
from .layer_slots import LayerSlots, SeenKeys, place, without
from .tether import TetherCache, TokenStatistics, align, choose_memories


class JudgedKeys:
    """What the pass of a commit sees of a history whose waiting frames it judges."""

    def __init__(self, cache: TetheredCache, active_frames: int) -> None:
        self.cache, self.active_frames = cache, active_frames
        self.frame_tokens = cache.shape.frame_tokens
        count = len(cache.layer_slots.frames(0))
        self._rotation = cache.shape.rotation(range(count), cache.device)

    def length(self, layer: int) -> int:
        """Keys of the frames seen, as many as before the choice."""
        return len(self.cache.seen_after(layer)) * self.frame_tokens

    def frames(self, layer: int) -> list[int]:
        """The latent frames that the layer has chosen to see, oldest first."""
        return self.cache.seen_after(layer)

    def key_frames(self, layer: int, rows: slice = slice(None)) -> None:
        """None: `frames` tells the latent frame of every key."""

    def workspace(
        self, layer: int, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rotated keys and values (b, n, t, d) of the batch `rows`, and no bias.

        The history comes first, then room for active frames. The tensors last for one layer call.
        """
        frames = self.cache.contents_after(layer)
        keys, values = (torch.cat([frame[i][rows] for frame in frames], 1) for i in range(2))
        rotated = self.cache.rotated_keys.store.rotated(layer)[rows]
        rotate_into(rotated, keys, self._rotation)
        room = values.new_empty(
            len(values), self.active_frames * self.frame_tokens, *values.shape[2:]
        )
        return rotated.transpose(1, 2), torch.cat([values, room], 1).transpose(1, 2), None


class TetheredCache(KVCache):
    """A history of a sink, memories that each layer chooses, and the newest frames.

    It counts as the window and sink of as many frames, although its layers hold others.
    """

    policy: TetherCache

    def __init__(
        self,
        shape: CacheShape,
        policy: TetherCache,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        self.layer_slots = LayerSlots(shape)
        self.rotated_keys = SeenKeys(self._store, self.slots, self.layer_slots, shape, self.device)
        self._memories: dict[int, list[int]] = {}  # each layer's choice in the pass of a commit

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """Attention of finished frames, whose queries judge the frames that wait."""
        self._memories = {}
        attention = super().attention_of_commit(visible)
        if not self.layer_slots.waiting:
            return attention
        self.rotated_keys.forget()  # the pass writes into its memory
        return replace(attention, history=JudgedKeys(self, len(visible)), prepare=self._judge)

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames; frames that wait become memories or leave.

        Without the pass of a commit before, no frame becomes a memory.
        """
        count = keys_values[0][0].shape[1] // self.shape.frame_tokens
        if count > self.shape.chunk_frames:
            raise ValueError(
                f"at most {self.shape.chunk_frames} latent frames at once; got {count}"
            )
        new = [self._count_frame() for _ in range(count)]
        waiting = 0
        for layer, (k, v) in enumerate(keys_values):
            waiting = self._commit_layer(layer, new, k, v)
        self.layer_slots.waiting = waiting
        self._memories = {}
        self.rotated_keys.forget()

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined; for rehearsals."""
        new = [self._count_frame() for _ in range(frames)]
        numbers = [*sorted(self.layer_slots.frames(0)), *new]
        policy, room = self.policy, self._store.kept_slots
        old = numbers[: policy.sink_frames + policy.memories]
        numbers = numbers if len(numbers) <= room else [*old, *numbers[len(old) - room :]]
        waiting = policy.waiting(numbers)
        self.layer_slots.hold([*waiting, *without(numbers, waiting)], len(waiting))
        self.rotated_keys.forget()

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        super().clear()
        self.layer_slots.hold((), 0)

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames` and that every layer holds."""
        if {*frames} >= {*self.slots.kept_slots}:
            return
        layers = self.layer_slots.by_layer
        common = sorted({*frames}.intersection(*layers))
        for layer, slots in enumerate(layers):
            self._store.arrange(layer, [slots.index(frame) for frame in common])
        self.layer_slots.hold(common, 0)
        self.slots.kept_slots = [*common]
        self.rotated_keys.forget()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        slots = self.layer_slots
        facts = {
            "committed": self.slots.committed, "kept": [*self.slots.kept_slots],
            "layers": [[*frames] for frames in slots.by_layer], "waiting": slots.waiting,
        }  # fmt: skip
        return Snapshot(self._store.state(len(slots.by_layer[0]), 0), facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings.

        Raises ValueError if the layers hold more frames than fit, or not equally many.
        """
        layers, waiting = snapshot.facts["layers"], snapshot.facts["waiting"]
        counts = {len({*frames}) for frames in layers} | {len(frames) for frames in layers}
        if len(layers) != self.shape.layers or len(counts) != 1:
            raise ValueError("the layers of a snapshot do not hold as many latent frames each")
        if max(counts) > self._store.kept_slots or not 0 <= waiting <= max(counts):
            raise ValueError(
                f"a snapshot of {max(counts)} latent frames does not fit a cache of "
                f"{self._store.kept_slots}"
            )
        self.slots.committed = snapshot.facts["committed"]
        self.slots.kept_slots = [*snapshot.facts["kept"]]
        self.layer_slots.by_layer = [[*frames] for frames in layers]
        self.layer_slots.waiting = waiting
        self._store.restore(snapshot.tensors)
        self.rotated_keys.forget()

    def seen_after(self, layer: int) -> list[int]:
        """The latent frames, oldest first, that `layer` sees once it has judged those that wait."""
        frames = sorted(self.layer_slots.by_layer[layer])
        judged = self._candidates(frames)
        memories = self._memories.get(layer)
        if memories is None:
            return without(frames, self.policy.waiting(frames))
        others, sink = without(frames, judged), self.policy.sink_frames
        return [*others[:sink], *memories, *others[sink:]]

    def contents_after(self, layer: int) -> list[tuple[Tensor, Tensor]]:
        """Un-rotated k and v (b, s, n, d) of the frames that `layer` then sees, oldest first."""
        slots, aligned = self.layer_slots.by_layer[layer], self._aligned(layer)
        return [
            aligned.get(frame) or self._store.frame(layer, slots.index(frame))
            for frame in self.seen_after(layer)
        ]

    def _candidates(self, frames: Sequence[int]) -> list[int]:
        """Of a layer's held `frames`, oldest first, its memories and those that wait."""
        first, waiting = self.policy.sink_frames, self.policy.waiting(frames)
        return [*frames[first : first + self.policy.memories], *waiting] if waiting else []

    def _judge(self, layer: int, queries: Tensor) -> None:
        """Choose a layer's memories by un-rotated `queries` (b, s, n, d)."""
        slots = self.layer_slots.by_layer[layer]
        candidates = self._candidates(sorted(slots))
        keys, _ = self._store.read(layer, len(slots), 0)
        chosen = [slots.index(frame) for frame in candidates]
        by_frame = keys.unflatten(1, (-1, self.shape.frame_tokens))[:, chosen]
        ranks = choose_memories(queries, by_frame, candidates, self.policy)
        self._memories[layer] = [candidates[rank] for rank in ranks]

    def _aligned(self, layer: int) -> dict[int, tuple[Tensor, Tensor]]:
        """k and v of the frames that become memories of `layer`, by frame."""
        slots, policy = self.layer_slots.by_layer[layer], self.policy
        frames = sorted(slots)
        new = {*self._memories.get(layer, ())}.intersection(policy.waiting(frames))
        if not new or not policy.alignment:
            return {}
        trusted = frames[: policy.sink_frames + policy.memories]
        contents = [self._store.frame(layer, slots.index(frame)) for frame in trusted]
        k, v = (TokenStatistics.of(torch.cat([one[i] for one in contents], 1)) for i in range(2))
        own = {frame: self._store.frame(layer, slots.index(frame)) for frame in sorted(new)}
        return {
            frame: (align(x, k, policy.alignment), align(y, v, policy.alignment))
            for frame, (x, y) in own.items()
        }

    def _commit_layer(self, layer: int, new: Sequence[int], k: Tensor, v: Tensor) -> int:
        """Put `new` frames into a layer's slots; returns how many frames wait."""
        slots, store = self.layer_slots.by_layer[layer], self._store
        for frame, content in self._aligned(layer).items():
            store.write(layer, slots.index(frame), *content)
        frames = [*self.seen_after(layer), *new]
        waiting = self.policy.waiting(frames)
        placed = place(slots, waiting, without(frames, waiting))
        old = {frame: slot for slot, frame in enumerate(slots)}
        store.arrange(layer, [old.get(frame, slot) for slot, frame in enumerate(placed)])
        for i, frame in enumerate(new):
            at = frame_slice(self.shape, i)
            store.write(layer, placed.index(frame), k[:, at], v[:, at])
        self.layer_slots.by_layer[layer] = placed
        return len(waiting)

    def _count_frame(self) -> int:
        """Count one commit as a window does; returns the number of its latent frame."""
        frame, counted = self.slots.take_number(), self.slots.kept_slots
        counted.append(frame)
        if len(counted) > self.policy.window_frames:
            del counted[self.policy.victim(counted)]
        return frame
