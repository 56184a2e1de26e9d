"""The history of a KV cache as attention reads it: keys rotated to their positions.

A store that holds rotated keys rotates, after a commit, only those that are new or have moved.
Any other store rotates a layer at every read, into a buffer that all layers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..pieces import runs
from ..rope import LatestRotation, Rotation, rotate_into
from ..storage.dense import Store
from ..storage.shape import CacheShape
from .slots import FrameSlots


class HistoryLayout(Protocol):
    """The order in which a layer's latent frames are laid out, and the rotation of their keys.

    Attention depends on distances alone. So a key is rotated to a *place*, which is its position in
    the window and what a layout adds to all positions, those of active frames too: its `origin`.
    """

    @property
    def origin(self) -> int:
        """What is added to positions."""

    def places(self, layer: int) -> Sequence[int] | None:
        """The place of each of `frames`; None where all are rotated again after each commit."""

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


class CountedFromZero:
    """Base of layouts that rotate a layer as a whole, to positions as they are."""

    origin = 0

    def places(self, layer: int) -> None:
        """None: all keys are rotated again after each commit."""


class SlotLayout:
    """Frames in slot order, each at its position, counted from `origin`.

    Positions fall as frames leave, and the origin rises by as much. So frames newer than those that
    left stay at the places of their own numbers; older ones, such as a sink, follow.
    """

    def __init__(self, slots: FrameSlots, shape: CacheShape) -> None:
        self.slots, self.shape = slots, shape
        self._places: list[int] | None = None
        self._rotation: Rotation | None = None

    @property
    def origin(self) -> int:
        """As many as bring the next frame to the place of its own number."""
        return self.slots.next_frame - self.slots.next_position

    def places(self, layer: int) -> Sequence[int]:
        """The place of the frame in each slot, the same in all layers."""
        if self._places is None:
            self._places = [self.origin + position for position in self.slots.positions]
        return self._places

    def frames(self, layer: int) -> list[int]:
        """The latent frame in each slot."""
        return self.slots.kept_frames

    def rotation(self, layer: int, device: torch.device) -> Rotation:
        """The rotation of the history's keys, the same in all layers."""
        if self._rotation is None:
            self._rotation = self.shape.rotation(self.places(layer), device)
        return self._rotation

    def key_frames(self, layer: int) -> Tensor | None:
        """None: all heads hold the same frames."""

    def forget(self) -> None:
        """Compute the rotation again at its next use: frames or positions have changed."""
        self._places = self._rotation = None


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
        self._active, self._of_moved = LatestRotation(shape.turn), LatestRotation(shape.turn)
        self._current: set[int] = set()  # layers whose rotated keys are all up to date
        self._rotated: list[dict[int, int]] = [{} for _ in range(shape.layers)]  # place by slot

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
        return self._latest(self._active, [self.layout.origin + each for each in positions])

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
        past, values = self.read(layer)
        rotated = self.store.rotated(layer)
        if not self.store.holds_rotated:
            rotate_into(rotated[rows], past[rows], self.layout.rotation(layer, self.device))
        elif layer not in self._current:
            self._rotate_moved(layer, past, rotated)
            self._current.add(layer)
        return rotated[rows].transpose(1, 2), values[rows].transpose(1, 2), None

    def rewritten(self, slot: int) -> None:
        """Rotate the key in `slot` again: it is another one."""
        self._current.clear()
        for places in self._rotated:
            places.pop(slot, None)

    def follow(self) -> None:
        """Look at the next read which frames have moved; those rewritten have been told.

        A rehearsal rotates all again, for its plan has to cover a run that resumes here.
        """
        self.layout.forget()
        self._current.clear()
        if self.device.type == "meta":
            self._forget_places()

    def forget(self) -> None:
        """Rotate all again at the next read: the history has changed."""
        self.follow()
        self._forget_places()

    def move(self, device: torch.device) -> None:
        """Rotate on `device` from now on."""
        self.device = device
        self._of_moved = LatestRotation(self.shape.turn)
        self.layout.forget()

    def _forget_places(self) -> None:
        for places in self._rotated:
            places.clear()

    def _rotate_moved(self, layer: int, past: Tensor, rotated: Tensor) -> None:
        """Rotate those keys of a layer that are not yet where they belong."""
        places, done = self.layout.places(layer), self._rotated[layer]
        if places is None:
            rotate_into(rotated, past, self.layout.rotation(layer, self.device))
            return
        moved = [slot for slot, place in enumerate(places) if done.get(slot) != place]
        if not moved:
            return
        for slot in moved:  # in case that a rotation fails
            done.pop(slot, None)
        rotation, first = self._latest(self._of_moved, [places[slot] for slot in moved]), 0
        for run in runs(moved):
            at = slice(run.start * self.frame_tokens, run.stop * self.frame_tokens)
            behind = first + at.stop - at.start
            rotate_into(rotated[:, at], past[:, at], rotation.of(slice(first, behind)))
            first = behind
        done.update((slot, places[slot]) for slot in moved)

    def _latest(self, known: LatestRotation, positions: Sequence[int]) -> Rotation:
        s = self.shape
        return known.get(positions, s.rows, s.columns, s.head_dim, self.device, s.step)
