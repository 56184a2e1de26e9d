"""A store that codes older latent frames and keeps the newest ones as computed.

Attention reads a layer from two buffers that all layers share; each layer is decoded into them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...machine.rehearsed_device import device_kind
from ..pieces import piece_starts, runs
from .codec import AS_COMPUTED, Codec, coded_frame_bytes
from .dense import Storage, changed_slots, empty_frames, frame_slice
from .placement import ON_DEVICE, Placement, Tier, copy_frames
from .shape import CacheShape

DECODED_AT_ONCE = 4
"""Latent frames that a CPU decodes at once, where products in float32 make copies."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Store all frames through a `codec` except the newest `recent_frames`.

    Recent frames stay on the device as computed; coded frames are placed as `placement` says.
    """

    codec: Codec
    recent_frames: int = 0
    placement: Placement = ON_DEVICE

    def __post_init__(self) -> None:
        if self.recent_frames < 0:
            raise ValueError(f"recent_frames must be at least 0; got {self.recent_frames}")

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Why the codec cannot be used on `device`, or None."""
        return self.codec.unsupported_reason(device)

    def open(self, shape: CacheShape, frames: int, room: int, device: torch.device) -> PackedStore:
        """A store of `frames` slots, with as many recent slots as there is `room` for."""
        recent = min(self.recent_frames, room)
        return PackedStore(shape, self, frames - recent, recent, device)

    def planned_bytes(self, shape: CacheShape, frames: int, room: int) -> int:
        """Bytes of coded frames on the device, recent frames, and one decoded layer.

        With offloading, only the layers being fetched are on the device.
        """
        recent = min(self.recent_frames, room)
        layers = self.placement.buffers or shape.layers
        coded = layers * (frames - recent) * coded_frame_bytes(self.codec, shape)
        dense = 2 * shape.layers * recent + 2 * (frames + shape.chunk_frames)
        return coded + dense * shape.frame_values * shape.dtype.itemsize

    def planned_offloaded(self, shape: CacheShape, frames: int, room: int) -> int:
        """Bytes of coded frames, if they are not on the device."""
        if not self.placement.buffers:
            return 0
        older = frames - min(self.recent_frames, room)
        return shape.layers * older * coded_frame_bytes(self.codec, shape)


def with_placement(storage: Storage, placement: Placement) -> Storage:
    """The same storage in another place, bit for bit; dense storage is offloaded uncoded."""
    if not placement.buffers:
        return storage
    if isinstance(storage, Packed):
        return replace(storage, placement=placement)
    return Packed(AS_COMPUTED, 0, placement)


class PackedStore:
    """Coded frames in the kept slots, frames as computed in the recent slots."""

    def __init__(
        self, shape: CacheShape, storage: Packed, kept_slots: int, recent: int, device: torch.device
    ) -> None:
        self.shape, self.storage, self.kept_slots, self.recent = shape, storage, kept_slots, recent
        self._coded = self._open_tier(device)
        self._recent = [
            tuple(empty_frames(shape, recent, device) for _ in "kv") for _ in range(shape.layers)
        ]
        self._decoded = self._open_buffers(device)

    @property
    def holds_rotated(self) -> bool:
        """False: the next layer needs the buffer."""
        return False

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device."""
        plain = (*self._decoded, *(part for parts in self._recent for part in parts))
        return self._coded.device_bytes + sum(tensor.nbytes for tensor in plain)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of tensors in main memory or files."""
        return self._coded.offloaded_bytes

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into a slot; kept slots code it."""
        if slot >= self.kept_slots:
            at = frame_slice(self.shape, slot - self.kept_slots)
            for into, x in zip(self._recent[layer], (k, v), strict=True):
                into[:, at] = x
            return
        codes = self.storage.codec.encode(k, v)
        self._coded.stop_prefetch()
        for part, content in zip(self._coded.layers[layer], codes, strict=True):
            part[slot] = content

    def frame(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """One frame's k and v (b, s, n, d), decoded on the device.

        Uncoded, their rows lie apart as in a dense store: a linear layer adds its bias in another
        way to rows without a gap, and rounds differently.
        """
        if slot >= self.kept_slots:
            at = frame_slice(self.shape, slot - self.kept_slots)
            k, v = self._recent[layer]
            return k[:, at], v[:, at]
        device, tokens = self._decoded[0].device, self.shape.frame_tokens
        parts = [part[slot : slot + 1].to(device) for part in self._coded.layers[layer]]
        room = 2 if self.storage.codec == AS_COMPUTED else 1
        k, v = (empty_frames(self.shape, room, device)[:, :tokens] for _ in "kv")
        self._decode_into((k, v), 0, parts)
        return k, v

    def read(self, layer: int, kept_slots: int, recent: int) -> tuple[Tensor, Tensor]:
        """Keys (b, s, n, d) and values with room behind, in the buffers that all layers share."""
        return self.read_part(layer, range(kept_slots), range(recent), range(kept_slots))

    def read_part(
        self, layer: int, kept_slots: Sequence[int], recent: Sequence[int], ahead: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """As `read`, but of these slots alone; `ahead` are kept slots that the next layer reads."""
        count, tokens = len(kept_slots), self.shape.frame_tokens
        coded = self._coded.fetch(layer, kept_slots, ahead)
        at_once = DECODED_AT_ONCE if device_kind(self._decoded[0]) == "cpu" else max(1, count)
        for first in piece_starts(count, at_once, self._decoded[0]):
            pieces = [part[first : first + at_once] for part in coded]
            self._decode_into(self._decoded, first, pieces)
        filled = count * tokens
        for run in runs(recent):
            at = slice(run.start * tokens, run.stop * tokens)
            behind = slice(filled, filled + at.stop - at.start)
            for into, part in zip(self._decoded, self._recent[layer], strict=True):
                into[:, behind] = part[:, at]
            filled = behind.stop
        keys, values = self._decoded
        return keys[:, :filled], values

    def select(self, kept_slots: Sequence[int], recent: Sequence[int]) -> None:
        """Move the slots, given in rising order, to the front."""
        for layer in range(self.shape.layers):
            self.arrange(layer, kept_slots)
            for slot, chosen in enumerate(recent):
                k, v = self.frame(layer, self.kept_slots + chosen)
                self.write(layer, self.kept_slots + slot, k, v)

    def arrange(self, layer: int, slots: Sequence[int]) -> None:
        """Give kept slot i of a layer the content of `slots[i]`, bit for bit."""
        into, chosen = changed_slots(slots)
        self._coded.stop_prefetch()
        for part in self._coded.layers[layer]:
            contents = [part[slot].clone() for slot in chosen]
            for slot, content in zip(into, contents, strict=True):
                part[slot] = content

    def rotated(self, layer: int) -> Tensor:
        """Memory for the rotated keys: they overwrite the keys that were read."""
        return self._decoded[0]

    def state(self, kept_slots: int, recent: int) -> dict[str, Tensor]:
        """Codes and recent frames, copied to the CPU."""
        stop, tensors = recent * self.shape.frame_tokens, {}
        for layer, parts in enumerate(self._coded.layers):
            for i, part in enumerate(parts):
                tensors[f"coded.{layer}.{i}"] = part[:kept_slots].to("cpu", copy=True)
            for i, part in enumerate(self._recent[layer]):
                tensors[f"recent.{layer}.{i}"] = part[:, :stop].to("cpu", copy=True)
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the content that `state` returned."""
        self._coded.stop_prefetch()
        for layer in range(self.shape.layers):
            for i, part in enumerate(self._coded.layers[layer]):
                content = tensors[f"coded.{layer}.{i}"]
                part[: len(content)] = content
            for i, part in enumerate(self._recent[layer]):
                content = tensors[f"recent.{layer}.{i}"]
                part[:, : content.shape[1]] = content

    def grow(self, kept_slots: int) -> None:
        """Have `kept_slots` coded frames; their content stays."""
        device, old, before = self._decoded[0].device, self._coded, self.kept_slots
        self.kept_slots = kept_slots
        self._coded, self._decoded = self._open_tier(device), self._open_buffers(device)
        copy_frames(old, self._coded, before)

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        self._coded.move(device)
        self._recent = [tuple(part.to(device) for part in parts) for parts in self._recent]
        keys, values = self._decoded
        self._decoded = keys.to(device), values.to(device)

    def _decode_into(
        self, buffers: tuple[Tensor, Tensor], first: int, parts: Sequence[Tensor]
    ) -> None:
        """Write coded frames (f, b, ...) into `buffers` of k and v, behind `first` others."""
        count, tokens = len(parts[0]), self.shape.frame_tokens
        at = slice(first * tokens, (first + count) * tokens)
        k, v = (buffer[:, at].unflatten(1, (count, tokens)) for buffer in buffers)
        self.storage.codec.decode_into([part.transpose(0, 1) for part in parts], k, v)

    def _open_tier(self, device: torch.device) -> Tier:
        parts, leading = self.storage.codec.parts(self.shape), (self.kept_slots, self.shape.batch)
        return self.storage.placement.open(self.shape.layers, parts, leading, device)

    def _open_buffers(self, device: torch.device) -> tuple[Tensor, Tensor]:
        frames = self.kept_slots + self.recent + self.shape.chunk_frames
        return empty_frames(self.shape, frames, device), empty_frames(self.shape, frames, device)
