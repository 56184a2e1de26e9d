"""TempCache: a history of merged keys, a fixed number of entries a head whatever the length.

A shot too short to fill all entries gets only as many as it has keys. Entries are added by
`merge.absorb` or `novelty.keep_novel`, frame by frame. The chunk size changes only which merged
entries are evicted, since their attention is measured once a commit. Keys are stored un-rotated and
rotated when read: an entry stands where its newest key stood, at most `reach_frames` before the
active frames. Tensors are (b, n, c, d) here: each head has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..ann.nearest import Index
from ..cache.frame_cache import FrameCache
from ..cache.prompt_keys import PromptKeys
from ..layout import HistoryAttention
from ..snapshot import Snapshot
from ..storage.dense import DENSE, KeysValues, Storage
from ..storage.shape import CacheShape
from . import store, usage
from .entries import Entries
from .frames import FrameRecord
from .merge import NewFrame, absorb
from .novelty import keep_novel
from .policy import TempCache
from .rotated_keys import RotatedKeys
from .usage import EntryUsage


def planned_bytes(
    shape: CacheShape,
    policy: TempCache,
    index: Index,
    storage: Storage = DENSE,
    length: int | None = None,
) -> int:
    """Exact value of `MergedCache.bytes`."""
    layout = policy.layout(shape.frame_tokens, length, index)
    entries = store.planned_bytes(shape, layout, storage)
    return entries + usage.planned_bytes(shape, policy)


class MergedCache(FrameCache):
    """The merged history of one rollout of `length` latent frames, None if it has no end.

    It serves all layers and guidance branches.
    """

    offloaded_bytes = 0
    rotated_keys: RotatedKeys

    def __init__(  # noqa: PLR0913
        self,
        shape: CacheShape,
        policy: TempCache,
        index: Index,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
        length: int | None = None,
    ) -> None:
        self.policy, self.index, self._record = policy, index, FrameRecord(policy)
        super().__init__(shape, self._record, device)
        layout = policy.layout(shape.frame_tokens, length, index)
        self.store = store.open_entries(shape, layout, storage, self.device)
        self.rotated_keys = RotatedKeys(self.store, self._record, shape, self.device)
        self._usage = EntryUsage(shape, policy, self.device)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors, including scratch and rotated copies."""
        return 0 if self.dropped else self.store.bytes + self._usage.bytes

    def entries(self, layer: int) -> Entries:
        """The entries of a layer as attention reads them; do not change them.

        Decoded keys and values are valid until the next layer is read.
        """
        return self.store.read(layer, self.rotated_keys.slots_in_use[layer]).of_every_head()

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """Attention of finished frames; records queries where attention decides what is evicted."""
        attention = super().attention_of_commit(visible)
        if not self.policy.merges:
            return attention
        return replace(attention, record=self._usage.record_queries)

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) of the slots in use, in slot order."""
        entries, stop = self.entries(layer), self.rotated_keys.slots_in_use[layer]
        return entries.keys[:, :, :stop].transpose(1, 2), entries.values[:, :, :stop].transpose(
            1, 2
        )

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Merge or append finished latent frames: un-rotated k and v (b, f s, n, d) of layers."""
        tokens, keys = self.shape.frame_tokens, self.rotated_keys
        for layer, (k, v) in enumerate(keys_values):
            if self.policy.merges:
                self._usage.update(layer, keys)
            if self.committed == 0:
                self.store.begin(layer, k[:, :tokens])
            self._add(layer, k, v)
        self._record.append(keys_values[0][0].shape[1] // tokens)
        if self.policy.merges or not keys.is_full:  # a full history without merging stays full
            keys.refresh_extents()
        keys.advance()

    def leave_gap(self, frames: int) -> None:
        """Refuse a gap: an entry stands where its newest key stood."""
        if frames:
            raise ValueError(f"a merged history has no gap after its sink; got {frames}")

    def assume(self, frames: int) -> None:
        """Count the next latent `frames` as committed, entries undefined; for rehearsals."""
        self._record.append(frames)
        self.rotated_keys.refresh_extents()
        self.rotated_keys.forget()

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        self._record.clear()
        self.generation += 1
        self.rotated_keys.empty_slots()
        self.index.restore({})
        self.rotated_keys.refresh_extents()
        self.rotated_keys.forget()

    def restart(self, frames: Sequence[int] = ()) -> None:
        """Forget the frames held; they will be committed again, oldest first."""
        self.clear()

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only entries whose newest key is of one of the held `frames`."""
        self._record.kept_frames = sorted(frames)
        remaining = upload(torch.tensor(self.kept_frames, dtype=torch.int32), self.device)
        self.rotated_keys.empty_slots(remaining)
        self.rotated_keys.refresh_extents()
        self.rotated_keys.forget()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        tensors = {
            f"{name}.{layer}": tensor.to("cpu", copy=True)
            for layer, stop in enumerate(self.rotated_keys.slots_in_use)
            for name, tensor in self.store.state(layer, stop).items()
        }
        learnt = {f"index.{name}": t.to("cpu", copy=True) for name, t in self.index.state().items()}
        facts = {"committed": self.committed, "held": list(self.kept_frames)}
        return Snapshot({**tensors, **learnt}, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings.

        Raises ValueError if the snapshot does not fit, for example if it is of a rollout that was
        planned with another length.
        """
        layers, slots = range(self.shape.layers), self.store.slots
        used = max(snapshot.tensors[f"mass.{layer}"].shape[2] for layer in layers)
        if used > slots:
            raise ValueError(f"a snapshot of {used} entries a head does not fit a cache of {slots}")
        for layer in layers:
            own = f".{layer}"
            state = {k.removesuffix(own): t for k, t in snapshot.tensors.items() if k.endswith(own)}
            self.store.restore(layer, state)
        prefix = "index."
        learnt = {k[len(prefix) :]: t for k, t in snapshot.tensors.items() if k.startswith(prefix)}
        self.index.restore({name: tensor.to(self.device) for name, tensor in learnt.items()})
        self._record.committed = snapshot.facts["committed"]
        self._record.kept_frames = list(snapshot.facts["held"])
        self.rotated_keys.refresh_extents()
        self.rotated_keys.forget()

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""
        self.device = torch.device(device)
        self.rotated_keys.move(self.device)
        self.store.move(self.device)
        self._usage.move(self.device)
        learnt = self.index.state()
        self.index.restore({name: tensor.to(self.device) for name, tensor in learnt.items()})

    def drop(self) -> None:
        """Free all tensors; the cache cannot be used any more."""
        self.dropped = True
        del self.store, self.rotated_keys, self._usage

    def _add(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Merge or append finished latent frames, k and v (b, f s, n, d), one after another."""
        keys, tokens, slots = self.rotated_keys, self.shape.frame_tokens, self.store.slots
        used = keys.slots_in_use[layer]
        rules = self.policy.rules(layer, self.store.own[layer]["centre"], self.store.half_step)
        entries = self.store.read(layer, used)
        fixed = self._record.complete_sink_frames * tokens
        rotated = keys.rotate_new(layer, k)
        for i in range(k.shape[1] // tokens):
            at = slice(i * tokens, (i + 1) * tokens)
            new = NewFrame(k[:, at].transpose(1, 2), v[:, at].transpose(1, 2), self.committed + i)
            if self.policy.merges:  # the slots searched do not depend on how many there are in all
                searched = entries.before(min(slots, used + (i + 1) * tokens))
                written = absorb(layer, searched, new, rules, self.index)
            else:
                used_now = min(slots, used + i * tokens)
                full = used_now == slots and keys.is_unbiased(layer)
                free = entries.behind(fixed)
                written = fixed + keep_novel(free, new, rules, used_now - fixed, full=full)
            self.store.note_written(layer, written)
            if rotated is not None:
                keys.write_new(layer, written, rotated[:, at])
