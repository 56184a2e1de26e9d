"""A store that keeps older latent frames coded and the newest as they were computed.

What attention reads is decoded layer by layer into two buffers that all layers share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .dense import Storage, empty_frames, frame_slice, moved
from .placement import ON_DEVICE, Placement, Shelf
from .quantize import AS_COMPUTED, Codec, coded_frame_bytes
from .shape import CacheShape

DECODED_AT_ONCE = 4  # latent frames; decoding takes float32 copies


@dataclass(frozen=True, slots=True)
class Packed:
    """Store through a `codec` all but the newest `recent_frames`, which stay as computed on the
    device; the coded ones lie where `placement` says.
    """

    codec: Codec
    recent_frames: int = 0
    placement: Placement = ON_DEVICE

    def __post_init__(self) -> None:
        if self.recent_frames < 0:
            raise ValueError(f"recent_frames must be at least 0; got {self.recent_frames}")

    def unsupported_reason(self, device: torch.device) -> str | None:
        """The codec's."""
        return self.codec.unsupported_reason(device)

    def open(self, shape: CacheShape, frames: int, sink: int, device: torch.device) -> PackedStore:
        """A store of `frames` slots, of them as many recent ones as the sink leaves."""
        recent = self._recent(frames, sink)
        return PackedStore(shape, self, frames - recent, recent, device)

    def planned_bytes(self, shape: CacheShape, frames: int, sink: int) -> int:
        """Codes of the older frames, or of the layers fetched; the recent frames; and what is
        decoded of one layer.
        """
        recent = self._recent(frames, sink)
        here = self.placement.buffers or shape.layers
        coded = here * (frames - recent) * coded_frame_bytes(self.codec, shape)
        dense = 2 * shape.layers * recent + 2 * (frames + shape.chunk_frames)
        return coded + dense * shape.frame_values * shape.dtype.itemsize

    def planned_offloaded(self, shape: CacheShape, frames: int, sink: int) -> int:
        """Codes of the older frames, where they do not lie on the device."""
        if not self.placement.buffers:
            return 0
        older = frames - self._recent(frames, sink)
        return shape.layers * older * coded_frame_bytes(self.codec, shape)

    def _recent(self, frames: int, sink: int) -> int:
        """At least one slot beside the sink is for frames that the recent ones push out."""
        return max(0, min(self.recent_frames, frames - sink - 1))


def placed(storage: Storage, placement: Placement) -> Storage:
    """The same bits in another place; what is dense leaves the device as it is computed."""
    if not placement.buffers:
        return storage
    if isinstance(storage, Packed):
        return replace(storage, placement=placement)
    return Packed(AS_COMPUTED, 0, placement)


class PackedStore:
    """Coded frames in the kept slots, plain ones in the recent slots."""

    def __init__(
        self, shape: CacheShape, storage: Packed, kept: int, recent: int, device: torch.device
    ) -> None:
        self.shape, self.storage, self.kept, self.recent = shape, storage, kept, recent
        self._coded = self._shelf(device)
        self._recent = [
            tuple(empty_frames(shape, recent, device) for _ in "kv") for _ in range(shape.layers)
        ]
        self._decoded = self._room(device)

    @property
    def holds_rotated(self) -> bool:
        """No: the next layer needs the buffer."""
        return False

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device."""
        plain = (*self._decoded, *(part for parts in self._recent for part in parts))
        return self._coded.device_bytes + sum(tensor.nbytes for tensor in plain)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of tensors in another place."""
        return self._coded.offloaded_bytes

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into a slot, coded where it is a kept one."""
        if slot >= self.kept:
            at = frame_slice(self.shape, slot - self.kept)
            for into, x in zip(self._recent[layer], (k, v), strict=True):
                into[:, at] = x
            return
        codes = self.storage.codec.encode(k, v)
        for part, made in zip(self._coded.layers[layer], codes, strict=True):
            part[slot] = made
        self._coded.changed()

    def frame(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """One frame's k and v (b, s, n, d), decoded."""
        if slot >= self.kept:
            at = frame_slice(self.shape, slot - self.kept)
            k, v = self._recent[layer]
            return k[:, at], v[:, at]
        return self._decode([part[slot : slot + 1] for part in self._coded.layers[layer]])

    def read(self, layer: int, kept: int, recent: int) -> tuple[Tensor, Tensor]:
        """Keys (b, s, n, d) and values with room behind, in the buffers that all layers share."""
        tokens = self.shape.frame_tokens
        coded = self._coded.fetch(layer, kept)
        for first in range(0, kept, DECODED_AT_ONCE):
            stop = min(first + DECODED_AT_ONCE, kept)
            decoded = self._decode([part[first:stop] for part in coded])
            for into, made in zip(self._decoded, decoded, strict=True):
                into[:, first * tokens : stop * tokens] = made
        behind = slice(kept * tokens, (kept + recent) * tokens)
        for into, part in zip(self._decoded, self._recent[layer], strict=True):
            into[:, behind] = part[:, : recent * tokens]
        keys, values = self._decoded
        return keys[:, : behind.stop], values

    def select(self, kept: Sequence[int], recent: Sequence[int]) -> None:
        """Move those slots, in rising order, to the front."""
        for layer in range(self.shape.layers):
            self.arrange(layer, kept)
            for slot, chosen in enumerate(recent):
                k, v = self.frame(layer, self.kept + chosen)
                self.write(layer, self.kept + slot, k, v)

    def arrange(self, layer: int, slots: Sequence[int]) -> None:
        """Put into the first kept slots of a layer what lies in `slots`, bit for bit."""
        into, chosen = moved(slots)
        for part in self._coded.layers[layer]:
            content = [part[slot].clone() for slot in chosen]
            for place, one in zip(into, content, strict=True):
                part[place] = one
        self._coded.changed()

    def rotated(self, layer: int) -> Tensor:
        """Where the rotated keys go, with room behind: over those that were read."""
        return self._decoded[0]

    def saved(self, kept: int, recent: int) -> dict[str, Tensor]:
        """Copies on the CPU of codes and of recent frames."""
        stop, found = recent * self.shape.frame_tokens, {}
        for layer, parts in enumerate(self._coded.layers):
            for i, part in enumerate(parts):
                found[f"coded.{layer}.{i}"] = part[:kept].to("cpu", copy=True)
            for i, part in enumerate(self._recent[layer]):
                found[f"recent.{layer}.{i}"] = part[:, :stop].to("cpu", copy=True)
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `saved` gave."""
        for layer in range(self.shape.layers):
            for i, part in enumerate(self._coded.layers[layer]):
                content = tensors[f"coded.{layer}.{i}"]
                part[: len(content)] = content
            for i, part in enumerate(self._recent[layer]):
                content = tensors[f"recent.{layer}.{i}"]
                part[:, : content.shape[1]] = content
        self._coded.changed()

    def grow(self, kept: int) -> None:
        """Have `kept` coded slots; their content stays."""
        device, old, before = self._decoded[0].device, self._coded, self.kept
        self.kept = kept
        self._coded, self._decoded = self._shelf(device), self._room(device)
        for layer, parts in enumerate(old.layers):
            for part, grown in zip(parts, self._coded.layers[layer], strict=True):
                grown[:before] = part

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        self._coded.move(device)
        self._recent = [tuple(part.to(device) for part in parts) for parts in self._recent]
        keys, values = self._decoded
        self._decoded = keys.to(device), values.to(device)

    def _decode(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """k and v (b, s, n, d) of coded frames (f, b, ...)."""
        k, v = self.storage.codec.decode([part.transpose(0, 1) for part in parts], self.shape)
        return k.flatten(1, 2), v.flatten(1, 2)

    def _shelf(self, device: torch.device) -> Shelf:
        parts, leading = self.storage.codec.parts(self.shape), (self.kept, self.shape.batch)
        return self.storage.placement.shelf(self.shape.layers, parts, leading, device)

    def _room(self, device: torch.device) -> tuple[Tensor, Tensor]:
        frames = self.kept + self.recent + self.shape.chunk_frames
        return empty_frames(self.shape, frames, device), empty_frames(self.shape, frames, device)
