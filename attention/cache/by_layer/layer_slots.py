"""Which latent frame lies in which slot where every layer holds frames of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....machine.uploads import upload
from ...rope import Rotation
from ...storage.shape import CacheShape
from ..rotated_keys import CountedFromZero, RotatedKeys


class LayerSlots(CountedFromZero):
    """The latent frame in each slot of every layer: those that wait in front, then those seen."""

    def __init__(self, shape: CacheShape) -> None:
        self.shape = shape
        self.by_layer: list[list[int]] = [[] for _ in range(shape.layers)]
        self.waiting = 0
        self._ranks: Rotation | None = None  # the rotation of every rank

    def frames(self, layer: int) -> list[int]:
        """The latent frames of `layer` that passes see, in slot order."""
        return self.by_layer[layer][self.waiting :]

    def rotation(self, layer: int, device: torch.device) -> Rotation:
        """The rotation (s, 1, d) of a layer's keys, each frame at its rank."""
        frames = self.frames(layer)
        count, by_time = len(frames), sorted(frames)
        if self._ranks is None:
            self._ranks = self.shape.rotation(range(count), device)
        if frames == by_time:
            return self._ranks
        ranks = upload(torch.tensor([by_time.index(frame) for frame in frames]), device)
        grouped = count, self.shape.frame_tokens
        cos, sin = (
            x.unflatten(0, grouped)[ranks].flatten(0, 1) for x in (self._ranks.cos, self._ranks.sin)
        )
        return Rotation(cos, sin, self.shape.turn)

    def key_frames(self, layer: int) -> Tensor | None:
        """None: all heads of a layer hold the same frames."""

    def forget(self) -> None:
        """Drop the rotations of ranks."""
        self._ranks = None

    def hold(self, frames: Sequence[int], waiting: int) -> None:
        """Hold the same `frames` in the slots of all layers."""
        self.by_layer, self.waiting = [[*frames] for _ in self.by_layer], waiting


class SeenKeys(RotatedKeys):
    """The keys and values of the frames that do not wait, which lie behind those that do."""

    layout: LayerSlots

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys (b, s, n, d) of the frames seen, and values with room behind."""
        slots, first = self.layout, self.layout.waiting * self.frame_tokens
        keys, values = self.store.read(layer, len(slots.by_layer[layer]), 0)
        return keys[:, first:], values[:, first:]


def without(frames: Sequence[int], left_out: Sequence[int]) -> list[int]:
    """The `frames` in their order, without those left out."""
    return [frame for frame in frames if frame not in left_out]


def place(old: Sequence[int], waiting: Sequence[int], seen: Sequence[int]) -> list[int]:
    """A frame for each slot, `waiting` ones in front; those in a fit slot of `old` stay there."""
    placed: dict[int, int] = {}
    for first, frames in ((0, waiting), (len(waiting), seen)):
        region = range(first, first + len(frames))
        stay = {slot: old[slot] for slot in region if slot < len(old) and old[slot] in frames}
        free = [slot for slot in region if slot not in stay]
        placed |= stay | dict(zip(free, without(frames, [*stay.values()]), strict=True))
    return [placed[slot] for slot in range(len(placed))]
