"""TempCache: a history of merged keys, a fixed number of entries a head however long the shot; of
a shot too short to fill them all there is room for as many as it has keys.

It is filled by `merge.absorb` or `unlike.keep_novel`, frame by frame, so how a history was cut
into chunks changes nothing. Keys are stored un-rotated and rotated when read: an entry stands where
its newest key stood, at most `reach_frames` before the active frames. Only distances count in that,
so entries and active frames are rotated by the number of their latent frame, and a key that stays
where it stood need not be rotated again. Tensors are (b, n, c, d) here: each head keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ann.nearest import Index
from ..cache.prompt_keys import PromptKeys
from ..rope import (
    TOKENS_AT_ONCE,
    LatestRotation,
    PositionTables,
    Rotation,
    position_tables,
    rotate,
    rotation,
)
from ..scatter import grid
from ..snapshot import Snapshot
from ..storage.dense import DENSE, Storage
from ..storage.shape import CacheShape
from . import store
from .attention import MergedAttention
from .entries import Entries
from .merge import NewFrame, absorb, observe
from .novelty import keep_novel
from .policy import TempCache

SAMPLED_QUERIES = 16
"""Queries of a commit pass, spread over its tokens, by which attention to entries is measured."""
ATTENTION_DECAY = 0.8
"""What remains of the attention measured before after one more commit."""


def sampled_queries(policy: TempCache) -> int:
    """Queries kept of a commit pass; none where attention does not decide what stays."""
    return SAMPLED_QUERIES if policy.merges else 0


def planned_bytes(
    shape: CacheShape,
    policy: TempCache,
    index: Index,
    storage: Storage = DENSE,
    length: int | None = None,
) -> int:
    """What `MergedCache.bytes` will be, exactly."""
    slots = policy.slots(shape.frame_tokens, length)
    asking = shape.layers * sampled_queries(policy) * shape.batch * shape.heads * shape.head_dim
    held = store.planned_bytes(shape, slots, index, storage)
    return held + asking * shape.dtype.itemsize


class MergedCache:
    """The merged history of one rollout of `length` latent frames, None has no end, for all layers
    and guidance branches.
    """

    def __init__(  # noqa: PLR0913
        self,
        shape: CacheShape,
        policy: TempCache,
        index: Index,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
        length: int | None = None,
    ) -> None:
        self.shape, self.policy, self.index = shape, policy, index
        self.device, self.dropped = torch.device(device), False
        self._slots = policy.slots(shape.frame_tokens, length)
        self._store = store.open_entries(shape, self._slots, index, storage, self.device)
        asking = shape.batch, shape.heads, sampled_queries(policy), shape.head_dim
        self._asking = [
            torch.zeros(asking, dtype=shape.dtype, device=device) for _ in range(shape.layers)
        ]
        self.committed = 0  # latent frames ever committed
        self.forgotten = 0  # how often all keys were
        self.held: list[int] = []  # the latent frames that count as held, oldest first
        self.extent = [0] * shape.layers  # slots in use, holes included
        self._plain = [True] * shape.layers  # whether every entry is one key
        self._may_have_holes = False  # in a rehearsal, which cannot look
        self._tables: PositionTables | None = None  # of all positions, until the next commit
        self._now = LatestRotation()  # of active frames
        self._turned: set[int] = set()  # layers whose rotated keys are up to date

    @property
    def bytes(self) -> int:
        """Bytes of all tensors held, scratch and rotated copies included."""
        if self.dropped:
            return 0
        return self._store.bytes + sum(tensor.nbytes for tensor in self._asking)

    @property
    def offloaded_bytes(self) -> int:
        """All of it is on the device."""
        return 0

    @property
    def positions(self) -> list[int]:
        """Where the keys of those frames stand that are still the newest of their entry: not ranks,
        and below 0 once frames between them have left.
        """
        count, farthest = len(self.held), self._farthest
        return [count - min(self.committed - frame, farthest) for frame in self.held]

    def entries(self, layer: int) -> Entries:
        """What a layer keeps, as it is read; not to be changed. Keys and values of storage in few
        bits are valid until the next layer is read.
        """
        return self._store.read(layer, self.extent[layer])

    def codes(self, layer: int) -> Tensor:
        """What the index made of a layer's keys (b, n, c, .), without reading keys or values, which
        would take the place of keys that a pass rotated.
        """
        return self._store.own[layer]["codes"]

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> MergedAttention:
        """What `frames` active latent frames may look at: the entries and themselves."""
        visible = self.shape.visible(frames, visible)
        after = range(len(self.held), len(self.held) + frames)
        return MergedAttention(self, visible, rows, positions or after)

    def attention_of_commit(self, visible: Sequence[int]) -> MergedAttention:
        """What finished frames look at as they are committed; which entries, is measured."""
        attention = self.attention(len(visible), visible)
        attention.measured = self.policy.merges
        return attention

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) of the slots in use, in order of slots."""
        kept, stop = self.entries(layer), self.extent[layer]
        return tuple(x[:, :, :stop].transpose(1, 2) for x in (kept.keys, kept.values))  # type: ignore[return-value]

    def rotation(self, positions: Sequence[int]) -> Rotation:
        """The rotation of latent frames at `positions`."""
        return rotation(
            positions, self.shape.rows, self.shape.columns, self.shape.head_dim, self.device
        )

    def rotation_now(self, positions: Sequence[int]) -> Rotation:
        """That of active frames, as the entries beside them are rotated."""
        s, gone = self.shape, self.committed - len(self.held)
        numbers = [gone + position for position in positions]
        return self._now.of(numbers, s.rows, s.columns, s.head_dim, self.device)

    def workspace(
        self, layer: int, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rotated keys, values (b, n, t, d) and biases (b, n, t) of `layer`, None where all are 0:
        entries in front, scratch for active frames behind `extent`. Views, valid until the next
        layer is read.
        """
        keys, values, bias = self._store.room(layer)
        if layer not in self._turned:
            self._turn(layer, rows)
        return keys[rows], values[rows], None if self.plain(layer) else bias[rows]

    def plain(self, layer: int) -> bool:
        """Whether every slot in use is one key, so that there is no bias."""
        return self._plain[layer]

    def asked(self, layer: int, rows: slice, q: Tensor) -> None:
        """Remember a sample of rotated queries (b, n, s, d) of the pass before a commit."""
        at = torch.linspace(0, q.shape[2] - 1, SAMPLED_QUERIES, device=q.device).long()
        self._asking[layer][rows] = q[:, :, at]

    def commit(
        self, keys_values: Sequence[tuple[Tensor, Tensor]], prompt: PromptKeys | None = None
    ) -> None:
        """Merge or append finished latent frames: un-rotated k and v (b, f s, n, d) of layers."""
        tokens = self.shape.frame_tokens
        for layer, (k, v) in enumerate(keys_values):
            if self.policy.merges:
                self._observe(layer)
            if self.committed == 0:
                self._store.begin(layer, k[:, :tokens])
            self._take(layer, k, v)
        for _ in range(keys_values[0][0].shape[1] // tokens):
            self.held.append(self.committed)
            self.committed += 1
        while len(self.held) > self.policy.limit:
            del self.held[self.policy.victim(self.held)]
        if self.policy.merges or not self._full:
            self._measure()
        self._tables = None

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        self.committed = 0
        self.forgotten += 1
        self.held.clear()
        for own in self._store.own:
            own["mass"].zero_()
        self.index.restore({})
        self._measure()
        self._forget_rotated()

    def restart(self) -> None:
        """The frames held will be committed again, oldest first, in place of what there is."""
        self.clear()

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only entries whose newest key is of one of the held `frames`."""
        self.held = sorted(frames)
        kept = torch.tensor(self.held, dtype=torch.int32, device=self.device)
        self._may_have_holes = True
        for own in self._store.own:
            own["mass"].masked_fill_(~torch.isin(own["frame"], kept), 0)
        self._measure()
        self._forget_rotated()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        tensors = {
            f"{name}.{layer}": tensor.to("cpu", copy=True)
            for layer in range(self.shape.layers)
            for name, tensor in self._store.saved(layer, self.extent[layer]).items()
        }
        learnt = {f"index.{name}": t.to("cpu", copy=True) for name, t in self.index.saved().items()}
        facts = {"committed": self.committed, "held": list(self.held)}
        return Snapshot({**tensors, **learnt}, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on, bit for bit, from what `snapshot` gave in a cache of the same settings.

        ValueError where it does not fit, as after a rollout that was planned much shorter.
        """
        layers = range(self.shape.layers)
        used = max(snapshot.tensors[f"mass.{layer}"].shape[2] for layer in layers)
        if used > self._slots:
            raise ValueError(
                f"a snapshot of {used} entries a head does not fit a cache of {self._slots}"
            )
        for layer in layers:
            own = f".{layer}"
            saved = {k.removesuffix(own): t for k, t in snapshot.tensors.items() if k.endswith(own)}
            self._store.restore(layer, saved)
        prefix = "index."
        learnt = {k[len(prefix) :]: t for k, t in snapshot.tensors.items() if k.startswith(prefix)}
        self.index.restore({name: tensor.to(self.device) for name, tensor in learnt.items()})
        self.committed, self.held = snapshot.facts["committed"], list(snapshot.facts["held"])
        self._measure()
        self._forget_rotated()

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""
        self.device = torch.device(device)
        self._tables = None
        self._store.move(self.device)
        self._asking = [tensor.to(self.device) for tensor in self._asking]
        learnt = self.index.saved()
        self.index.restore({name: tensor.to(self.device) for name, tensor in learnt.items()})

    def drop(self) -> None:
        """Give all memory back."""
        self.dropped = True
        del self._store
        self._asking.clear()
        self._tables = None

    def _take(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Merge or append finished latent frames, k and v (b, f s, n, d), one after another."""
        store, tokens, used = self._store, self.shape.frame_tokens, self.extent[layer]
        rules = self.policy.rules(layer, store.own[layer]["centre"], store.half_step)
        entries, fixed = store.read(layer, used), self._fixed
        changing = entries.behind(fixed)
        frames = range(self.committed, self.committed + k.shape[1] // tokens)
        turned = self._turned_new(layer, k)
        for i, frame in enumerate(frames):
            at = slice(i * tokens, (i + 1) * tokens)
            new = NewFrame(k[:, at].transpose(1, 2), v[:, at].transpose(1, 2), frame)
            if self.policy.merges:  # what it looks at does not depend on how much room there is
                there = entries.before(min(self._slots, used + (i + 1) * tokens))
                slots = absorb(layer, there, new, rules, self.index)
            else:
                used_now = min(self._slots, used + i * tokens)
                full = used_now == self._slots and self.plain(layer)
                slots = fixed + keep_novel(changing, new, rules, used_now - fixed, full=full)
            store.took(layer, slots)
            if turned is not None:
                where = (*grid(slots), slots)
                store.room(layer)[0][where] = turned[:, at].transpose(1, 2)

    def _turned_new(self, layer: int, k: Tensor) -> Tensor | None:
        """The rotated keys (b, f s, n, d) of new latent frames, to go beside those of entries that
        stand where they stood; None where all of the layer are to be rotated when it is next read.
        """
        count, reach = k.shape[1] // self.shape.frame_tokens, self.policy.reach_frames
        led_along = reach is not None and self.committed + count > reach
        if layer in self._turned and not (self.policy.merges or led_along) and self.plain(layer):
            now = range(len(self.held), len(self.held) + count)
            return rotate(k.to(self.shape.dtype), self.rotation_now(now))
        self._turned.discard(layer)
        return None

    def _turn(self, layer: int, rows: slice) -> None:
        """Rotate all keys of a layer, some at a time, and note their biases."""
        store, stop = self._store, self.extent[layer]
        keys, _, bias = store.room(layer)
        wanted = slice(None) if store.holds_rotated else rows
        kept = store.read(layer, stop, wanted)
        tables, farthest = self._position_tables(), self._farthest
        for first in range(0, stop, TOKENS_AT_ONCE):
            at = wanted, slice(None), slice(first, min(first + TOKENS_AT_ONCE, stop))
            # Of an empty slot the age may be anything.
            age = (self.committed - kept.frame[at]).clamp(1, farthest)
            keys[at] = rotate(kept.keys[at], tables.of(farthest - age, kept.place[at]))
        if not self.plain(layer):
            bias[wanted, :, :stop] = kept.mass[wanted, :, :stop].log()
            bias[wanted, :, stop:] = 0
        if store.holds_rotated:
            self._turned.add(layer)

    def _forget_rotated(self) -> None:
        self._turned.clear()
        self._tables = None

    def _observe(self, layer: int) -> None:
        """Measure the attention that entries got from the queries of the pass before a commit."""
        stop = self.extent[layer]
        if stop == 0:
            return
        keys, _, bias = self.workspace(layer)
        logits = self._asking[layer].float() @ keys[:, :, :stop].float().transpose(2, 3)
        logits = logits * self.shape.head_dim**-0.5
        if bias is not None:
            logits = logits + bias[:, :, None, :stop]
        observe(self._store.own[layer]["worth"], logits.softmax(-1).mean(2), ATTENTION_DECAY)

    def _measure(self) -> None:
        """Find out how far slots are in use: one wait for the device for all layers."""
        slot = torch.arange(1, self._slots + 1, device=self.device)
        if self.device.type == "meta":  # a rehearsal, of which only sizes count
            self.extent = [min(self._slots, self.committed * self.shape.frame_tokens)] * len(
                self.extent
            )
            biased = self.policy.merges or self._may_have_holes
            self._plain = [self.committed == 0 or not biased] * len(self.extent)
            return
        masses = [own["mass"] for own in self._store.own]
        self.extent = torch.stack([((mass > 0) * slot).max() for mass in masses]).tolist()
        stops = zip(masses, self.extent, strict=True)
        ones = [(mass[:, :, :stop] == 1).all() for mass, stop in stops]
        self._plain = torch.stack(ones).tolist()

    @property
    def _full(self) -> bool:
        """Whether every slot holds one key; where nothing is merged it stays so."""
        return all(self._plain) and min(self.extent) == self._slots

    @property
    def _fixed(self) -> int:
        """How many slots the sink has filled for good: it came first, so they are in front."""
        sink = self.held[: self.policy.sink_frames]
        return sum(rank == frame for rank, frame in enumerate(sink)) * self.shape.frame_tokens

    @property
    def _farthest(self) -> int:
        """The most latent frames that an entry stands before the active ones."""
        reach = self.policy.reach_frames
        return max(1, self.committed if reach is None else min(reach, self.committed))

    def _position_tables(self) -> PositionTables:
        """Of the farthest position to that right before the active frames."""
        if self._tables is None:
            s, now = self.shape, self.committed
            frames = range(now - self._farthest, now)
            self._tables = position_tables(frames, s.rows, s.columns, s.head_dim, self.device)
        return self._tables
