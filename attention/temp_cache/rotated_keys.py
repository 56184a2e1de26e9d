"""The entries of a merged history as attention reads them: keys rotated, masses as biases.

Only distances count in the rotation. So entries and active frames are rotated by the numbers of
their latent frames, and a key that keeps its position keeps its rotated copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..pieces import piece_starts
from ..rope import (
    TOKENS_AT_ONCE,
    LatestRotation,
    PositionTables,
    Rotation,
    position_tables,
    rotate,
)
from ..scatter import batch_head_index
from ..storage.shape import CacheShape
from .frames import FrameRecord
from .store import EntryStore


class RotatedKeys:
    """Rotated keys, values and biases of all layers, with room for active frames behind.

    `slots_in_use` counts for each layer the slots up to the last entry, holes included.
    """

    def __init__(
        self, store: EntryStore, record: FrameRecord, shape: CacheShape, device: torch.device
    ) -> None:
        self.store, self.record, self.shape, self.device = store, record, shape, device
        self.slots_in_use = [0] * shape.layers
        self._unbiased = [True] * shape.layers
        self._may_have_holes = False  # in a rehearsal, which cannot look
        self._tables: PositionTables | None = None  # of all positions, until the next commit
        self._active = LatestRotation(shape.turn)
        self._rotated: set[int] = set()  # layers whose rotated keys are up to date

    @property
    def frame_tokens(self) -> int:
        """Tokens of one latent frame."""
        return self.shape.frame_tokens

    @property
    def is_full(self) -> bool:
        """Whether every slot of every layer holds one key."""
        return all(self._unbiased) and min(self.slots_in_use) == self.store.slots

    def length(self, layer: int) -> int:
        """Slots in use in `layer`, holes included."""
        return self.slots_in_use[layer]

    def frames(self, layer: int) -> list[int]:
        """The latent frame of each `frame_tokens` slots: the sink's, then -1 for mixed frames."""
        sink = min(self.record.policy.sink_frames, self.record.committed)
        return [*range(sink), *[-1] * (-(-self.slots_in_use[layer] // self.frame_tokens) - sink)]

    def key_frames(self, layer: int, rows: slice = slice(None)) -> Tensor:
        """The latent frame of each entry's newest key: (b, n, t), or (1, 1, t) for all heads."""
        frames = self.store.own[layer]["frame"][:, :, : self.slots_in_use[layer]]
        return frames[rows] if len(frames) == self.shape.batch else frames

    def token_numbers(self, layer: int) -> Tensor:
        """The number (t,) in the rollout of each entry's token, -1 for an empty slot.

        Only for entries on which all heads and rows agree.
        """
        own, stop = self.store.own[layer], self.slots_in_use[layer]
        frame, place, mass = (own[name][0, 0, :stop] for name in ("frame", "place", "mass"))
        return (frame.long() * self.frame_tokens + place).masked_fill(mass <= 0, -1)

    def is_unbiased(self, layer: int) -> bool:
        """Whether every slot in use is one key, so that no key needs a bias."""
        return self._unbiased[layer]

    def active_rotation(self, positions: Sequence[int]) -> Rotation:
        """The rotation of active frames at window-relative `positions`."""
        s, numbers = self.shape, self.record.numbers(positions)
        return self._active.get(numbers, s.rows, s.columns, s.head_dim, self.device)

    def workspace(
        self, layer: int, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rotated keys, values (b, n, t, d) and biases (b, n, t) of the batch `rows`.

        Biases are None if all are 0. Entries come first, then scratch for active frames. The
        tensors are views, valid until the next layer is read.
        """
        keys, values, bias = self.store.workspace(layer)
        if layer not in self._rotated:
            self._rotate(layer, rows)
        if self.is_unbiased(layer):
            return keys[rows], values[rows], None
        return keys[rows], values[rows], bias.expand(*keys.shape[:3])[rows]

    def rotate_new(self, layer: int, k: Tensor) -> Tensor | None:
        """Rotate the keys (b, f s, n, d) of new latent frames, to be written beside older copies.

        None if older entries change or move too: then the next read rotates the whole layer.
        """
        count, policy = k.shape[1] // self.frame_tokens, self.record.policy
        reach = policy.reach_frames
        moves = reach is not None and self.record.committed + count > reach
        if layer in self._rotated and not (policy.merges or moves) and self.is_unbiased(layer):
            first = len(self.record.kept_frames)
            rotation = self.active_rotation(range(first, first + count))
            return rotate(k.to(self.shape.dtype), rotation)
        self._rotated.discard(layer)
        return None

    def write_new(self, layer: int, slots: Tensor, rotated: Tensor) -> None:
        """Write `rotated` keys (b, s, n, d) to `slots` (b, n, s) of the rotated copy."""
        self.store.workspace(layer)[0][batch_head_index(slots)] = rotated.transpose(1, 2)

    def advance(self) -> None:
        """Drop the tables of positions: frames were committed."""
        self._tables = None

    def forget(self) -> None:
        """Rotate all layers again at the next read: entries have changed."""
        self._rotated.clear()
        self._tables = None

    def empty_slots(self, remaining: Tensor | None = None) -> None:
        """Empty all slots, or those whose newest key is not of one of the frames `remaining`."""
        for own in self.store.own:
            if remaining is None:
                own["mass"].zero_()
            else:
                self._may_have_holes = True
                own["mass"].masked_fill_(~torch.isin(own["frame"], remaining), 0)

    def refresh_extents(self) -> None:
        """Find out which slots are in use; waits once for the device, for all layers together."""
        layers, slots = self.shape.layers, self.store.slots
        if self.device.type == "meta":  # a rehearsal, of which only sizes count
            committed = self.record.committed
            self.slots_in_use = [min(slots, committed * self.frame_tokens)] * layers
            biased = self.record.policy.merges or self._may_have_holes
            self._unbiased = [committed == 0 or not biased] * layers
            return
        slot = torch.arange(1, slots + 1, device=self.device)
        masses = [own["mass"] for own in self.store.own]
        self.slots_in_use = torch.stack([((mass > 0) * slot).max() for mass in masses]).tolist()
        stops = zip(masses, self.slots_in_use, strict=True)
        single = [(mass[:, :, :stop] == 1).all() for mass, stop in stops]
        self._unbiased = torch.stack(single).tolist()

    def move(self, device: torch.device) -> None:
        """Rotate on `device` from now on."""
        self.device = device
        self._tables = None

    def _rotate(self, layer: int, rows: slice) -> None:
        """Rotate all keys of a layer, some at a time, and write their biases."""
        store, stop = self.store, self.slots_in_use[layer]
        keys, _, bias = store.workspace(layer)
        target_rows = slice(None) if store.holds_rotated else rows
        entries = store.read(layer, stop, target_rows)
        tables, farthest = self._position_tables(), self.record.farthest
        fact_rows = target_rows if len(entries.frame) == self.shape.batch else slice(None)
        for first in piece_starts(stop, TOKENS_AT_ONCE, keys):
            slots = slice(None), slice(first, min(first + TOKENS_AT_ONCE, stop))
            at, facts_at = (target_rows, *slots), (fact_rows, *slots)
            # The age of an empty slot may be anything.
            age = (self.record.committed - entries.frame[facts_at]).clamp(1, farthest)
            rotation = tables.look_up(farthest - age, entries.place[facts_at])
            keys[at] = rotate(entries.keys[at], rotation)
        if not self.is_unbiased(layer):
            bias[fact_rows, :, :stop] = entries.mass[fact_rows, :, :stop].log()
            bias[fact_rows, :, stop:] = 0
        if store.holds_rotated:
            self._rotated.add(layer)

    def _position_tables(self) -> PositionTables:
        """Tables from the farthest position to the one right before the active frames."""
        if self._tables is None:
            s, next_frame = self.shape, self.record.committed
            frames = range(next_frame - self.record.farthest, next_frame)
            self._tables = position_tables(frames, s.rows, s.columns, s.head_dim, self.device)
        return self._tables
