"""The history of a KV cache as attention reads it: keys rotated to their positions.

A store that holds rotated keys rotates each layer once between two commits. Any other store
rotates a layer at every read, into a buffer that all layers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..rope import LatestRotation, Rotation, rotate_into
from ..storage.dense import Store
from ..storage.shape import CacheShape
from .slots import FrameSlots


class HistoryLayout(Protocol):
    """The order in which a layer's latent frames are laid out, and the rotation of their keys."""

    def frames(self, layer: int) -> list[int]:
        """The latent frames of `layer` in order, -1 where its heads hold several.

        Every layer has as many.
        """

    def rotation(self, layer: int, device: torch.device) -> Rotation:
        """The rotation of the history's keys in `layer`."""

    def key_frames(self, layer: int) -> Tensor | None:
        """The latent frame (1, n, t) of each key of `layer`; None where `frames` tells."""

    def forget(self) -> None:
        """Drop rotations computed so far: the history or the device has changed."""


class SlotLayout:
    """Frames in slot order, each at its rank among the frames held."""

    def __init__(self, slots: FrameSlots, shape: CacheShape) -> None:
        self.slots, self.shape = slots, shape
        self._rotation: Rotation | None = None

    def frames(self, layer: int) -> list[int]:
        """The latent frame in each slot."""
        return self.slots.kept_frames

    def rotation(self, layer: int, device: torch.device) -> Rotation:
        """The rotation of the history's keys, the same in all layers."""
        if self._rotation is None:
            self._rotation = self.shape.rotation(self.slots.positions, device)
        return self._rotation

    def key_frames(self, layer: int) -> Tensor | None:
        """None: all heads hold the same frames."""

    def forget(self) -> None:
        """Compute the rotation again at its next use: frames or positions have changed."""
        self._rotation = None


class RotatedKeys:
    """Rotated keys and values of all layers, with room for active frames behind the history."""

    def __init__(
        self,
        store: Store,
        slots: FrameSlots,
        layout: HistoryLayout,
        shape: CacheShape,
        device: torch.device,
    ) -> None:
        self.store, self.slots, self.layout = store, slots, layout
        self.shape, self.device = shape, device
        self._active = LatestRotation(shape.turn)
        self._rotated: set[int] = set()  # layers whose rotated keys are up to date

    @property
    def frame_tokens(self) -> int:
        """Tokens of one latent frame."""
        return self.shape.frame_tokens

    def frames(self, layer: int) -> list[int]:
        """The latent frame of each `frame_tokens` keys, -1 where heads differ."""
        return self.layout.frames(layer)

    def key_frames(self, layer: int, rows: slice = slice(None)) -> Tensor | None:
        """The latent frame (1, n, t) of each key, in all rows; None where `frames` tells."""
        frames = self.layout.key_frames(layer)
        return None if frames is None else frames.to(self.device)

    def length(self, layer: int) -> int:
        """Keys of the history in `layer`."""
        return len(self.layout.frames(layer)) * self.frame_tokens

    def active_rotation(self, positions: Sequence[int]) -> Rotation:
        """The rotation of active frames; the last one is cached for the steps of a chunk."""
        s = self.shape
        return self._active.get(positions, s.rows, s.columns, s.head_dim, self.device)

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys (b, s, n, d) of the history, and values with room behind.

        Valid until the next layer is read.
        """
        return self.store.read(layer, len(self.slots.kept_slots), len(self.slots.recent))

    def workspace(
        self, layer: int, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rotated keys and values (b, n, t, d) of the batch `rows`, and no bias.

        The history comes first, then scratch for active frames. The tensors are views, valid until
        the next layer is read.
        """
        store = self.store
        past, values = self.read(layer)
        rotated = store.rotated(layer)
        if layer not in self._rotated:
            target_rows = slice(None) if store.holds_rotated else rows
            rotation = self.layout.rotation(layer, self.device)
            rotate_into(rotated[target_rows], past[target_rows], rotation)
            if store.holds_rotated:
                self._rotated.add(layer)
        return rotated[rows].transpose(1, 2), values[rows].transpose(1, 2), None

    def forget(self) -> None:
        """Rotate again at the next read: the history has changed."""
        self.layout.forget()
        self._rotated.clear()

    def move(self, device: torch.device) -> None:
        """Rotate on `device` from now on."""
        self.device = device
        self.layout.forget()
