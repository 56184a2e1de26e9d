"""A history of which a pass reads some latent frames: only these are fetched, decoded and rotated.

Rules may let most steps and layers read the near past alone. Where a history is coded or lies in
main memory or on disk, what is not read is then left where it is. While a layer is computed, the
frames that the next layer reads are fetched.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..layout import HistoryAttention, HistoryReader
from ..pieces import runs
from ..readable import NOT_READ
from ..rope import Rotation, rotate_into
from ..storage.packed import PackedStore
from ..weights import FrameWeights
from .rotated_keys import RotatedKeys


class PartKeys:
    """The frames of `whole`, in its `store`, that have any of the `weights`; for one pass."""

    def __init__(self, whole: RotatedKeys, store: PackedStore, weights: FrameWeights) -> None:
        self.whole, self.store, self.weights = whole, store, weights
        self._slots: dict[int, tuple[int, ...]] = {}
        self._rotations: dict[tuple[int, ...], Rotation] = {}

    @property
    def frame_tokens(self) -> int:
        """Tokens of one latent frame."""
        return self.whole.frame_tokens

    def length(self, layer: int) -> int:
        """Keys of the frames that `layer` reads."""
        return len(self.slots(layer)) * self.frame_tokens

    def frames(self, layer: int) -> list[int]:
        """The latent frames that `layer` reads, in slot order."""
        frames = self.whole.frames(layer)
        return [frames[slot] for slot in self.slots(layer)]

    def key_frames(self, layer: int, rows: slice = slice(None)) -> None:
        """None: `frames` tells the latent frame of every key."""

    def slots(self, layer: int) -> tuple[int, ...]:
        """The slots that `layer` reads, counted from 0, recent ones last."""
        if layer not in self._slots:
            weights = (self.weights.log_weight(layer, frame) for frame in self.whole.frames(layer))
            self._slots[layer] = tuple(i for i, weight in enumerate(weights) if weight != NOT_READ)
        return self._slots[layer]

    def workspace(
        self, layer: int, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rotated keys and values (b, n, t, d) of the batch `rows`, and no bias.

        The history comes first, then scratch for active frames. The tensors are views, valid until
        the next layer is read.
        """
        slots, recent = self._kept_and_recent(layer)
        ahead, _ = self._kept_and_recent((layer + 1) % self.whole.shape.layers)
        past, values = self.store.read_part(layer, slots, recent, ahead)
        rotated = self.store.rotated(layer)
        rotate_into(rotated[rows], past[rows], self._rotation(layer))
        return rotated[rows].transpose(1, 2), values[rows].transpose(1, 2), None

    def _kept_and_recent(self, layer: int) -> tuple[list[int], list[int]]:
        """The kept slots that `layer` reads, and the recent ones, each counted from 0."""
        first_recent = len(self.whole.slots.kept_slots)
        recent = [slot - first_recent for slot in self.slots(layer) if slot >= first_recent]
        return [slot for slot in self.slots(layer) if slot < first_recent], recent

    def _rotation(self, layer: int) -> Rotation:
        """The rotation of the keys that `layer` reads; most layers read the same ones."""
        slots, tokens = self.slots(layer), self.frame_tokens
        if slots not in self._rotations:
            by = self.whole.layout.rotation(layer, self.whole.device)
            tables = (
                [x[run.start * tokens : run.stop * tokens] for run in runs(slots)]
                for x in (by.cos, by.sin)
            )
            cos, sin = (torch.cat(parts) if parts else by.cos[:0] for parts in tables)
            self._rotations[slots] = Rotation(cos, sin, by.turn)
        return self._rotations[slots]


def read_part(attention: HistoryReader, weights: FrameWeights) -> HistoryReader:
    """The same attention, reading only frames of any of the `weights` where the store can.

    Attention that records what it reads goes on reading everything.
    """
    if not isinstance(attention, HistoryAttention) or attention.record is not None:
        return attention
    whole = attention.history
    if type(whole) is not RotatedKeys or not isinstance(whole.store, PackedStore):
        return attention
    return replace(attention, history=PartKeys(whole, whole.store, weights))
