"""A store that keeps older latent frames coded and the newest as they were computed.

What attention reads is decoded layer by layer into two buffers that all layers share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cache_shape import CacheShape
from .kv_storage import empty_frames, frame_slice
from .quantize import Codec, coded_frame_bytes

DECODED_AT_ONCE = 4  # latent frames; decoding takes float32 copies


@dataclass(frozen=True, slots=True)
class Packed:
    """Store through a `codec` all but the newest `recent_frames`, which stay as computed."""

    codec: Codec
    recent_frames: int = 0

    def __post_init__(self) -> None:
        if self.recent_frames < 0:
            raise ValueError(f"recent_frames must be at least 0; got {self.recent_frames}")

    def open(self, shape: CacheShape, frames: int, sink: int, device: torch.device) -> PackedStore:
        """A store of `frames` slots, of them as many recent ones as the sink leaves."""
        recent = self._recent(frames, sink)
        return PackedStore(shape, self.codec, frames - recent, recent, device)

    def planned_bytes(self, shape: CacheShape, frames: int, sink: int) -> int:
        """Codes of the older frames, the recent ones, and what is decoded of one layer."""
        recent = self._recent(frames, sink)
        coded = shape.layers * (frames - recent) * coded_frame_bytes(self.codec, shape)
        dense = 2 * shape.layers * recent + 2 * (frames + shape.chunk_frames)
        return coded + dense * shape.frame_values * shape.dtype.itemsize

    def _recent(self, frames: int, sink: int) -> int:
        """At least one slot beside the sink is for frames that the recent ones push out."""
        return max(0, min(self.recent_frames, frames - sink - 1))


class PackedStore:
    """Coded frames in the kept slots, plain ones in the recent slots."""

    def __init__(
        self, shape: CacheShape, codec: Codec, kept: int, recent: int, device: torch.device
    ) -> None:
        self.shape, self.codec, self.kept, self.recent = shape, codec, kept, recent
        self._coded = [self._no_codes(kept, device) for _ in range(shape.layers)]
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
        """Bytes of all tensors held."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into a slot, coded where it is a kept one."""
        if slot >= self.kept:
            at = frame_slice(self.shape, slot - self.kept)
            for into, x in zip(self._recent[layer], (k, v), strict=True):
                into[:, at] = x
            return
        for part, made in zip(self._coded[layer], self.codec.encode(k, v), strict=True):
            part[:, slot] = made

    def frame(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """One frame's k and v (b, s, n, d), decoded."""
        if slot >= self.kept:
            at = frame_slice(self.shape, slot - self.kept)
            k, v = self._recent[layer]
            return k[:, at], v[:, at]
        k, v = self._decode(layer, slice(slot, slot + 1))
        return k, v

    def read(self, layer: int, kept: int, recent: int) -> tuple[Tensor, Tensor]:
        """Keys (b, s, n, d) and values with room behind, in the buffers that all layers share."""
        tokens = self.shape.frame_tokens
        for first in range(0, kept, DECODED_AT_ONCE):
            frames = slice(first, min(first + DECODED_AT_ONCE, kept))
            at = slice(frames.start * tokens, frames.stop * tokens)
            for into, made in zip(self._decoded, self._decode(layer, frames), strict=True):
                into[:, at] = made
        behind = slice(kept * tokens, (kept + recent) * tokens)
        for into, part in zip(self._decoded, self._recent[layer], strict=True):
            into[:, behind] = part[:, : recent * tokens]
        keys, values = self._decoded
        return keys[:, : behind.stop], values

    def select(self, kept: Sequence[int], recent: Sequence[int]) -> None:
        """Move those slots, in rising order, to the front."""
        for layer in range(self.shape.layers):
            for slot, chosen in enumerate(kept):
                for part in self._coded[layer]:
                    part[:, slot] = part[:, chosen]
            for slot, chosen in enumerate(recent):
                k, v = self.frame(layer, self.kept + chosen)
                self.write(layer, self.kept + slot, k, v)

    def rotated(self, layer: int) -> Tensor:
        """Where the rotated keys go, with room behind: over those that were read."""
        return self._decoded[0]

    def saved(self, kept: int, recent: int) -> dict[str, Tensor]:
        """Copies on the CPU of codes and of recent frames."""
        stop, found = recent * self.shape.frame_tokens, {}
        for layer, parts in enumerate(self._coded):
            for i, part in enumerate(parts):
                found[f"coded.{layer}.{i}"] = part[:, :kept].to("cpu", copy=True)
            for i, part in enumerate(self._recent[layer]):
                found[f"recent.{layer}.{i}"] = part[:, :stop].to("cpu", copy=True)
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `saved` gave."""
        for layer in range(self.shape.layers):
            for name, parts in (("coded", self._coded[layer]), ("recent", self._recent[layer])):
                for i, part in enumerate(parts):
                    content = tensors[f"{name}.{layer}.{i}"]
                    part[:, : content.shape[1]] = content

    def grow(self, kept: int) -> None:
        """Have `kept` coded slots; their content stays."""
        device = self._decoded[0].device
        for layer, old in enumerate(self._coded):
            self._coded[layer] = self._no_codes(kept, device)
            for before, after in zip(old, self._coded[layer], strict=True):
                after[:, : self.kept] = before
        self.kept = kept
        self._decoded = self._room(device)

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        for layers in (self._coded, self._recent):
            for layer, parts in enumerate(layers):
                layers[layer] = tuple(part.to(device) for part in parts)
        keys, values = self._decoded
        self._decoded = keys.to(device), values.to(device)

    def _decode(self, layer: int, frames: slice) -> tuple[Tensor, Tensor]:
        k, v = self.codec.decode([part[:, frames] for part in self._coded[layer]], self.shape)
        return k.flatten(1, 2), v.flatten(1, 2)

    def _no_codes(self, frames: int, device: torch.device) -> tuple[Tensor, ...]:
        return tuple(
            torch.zeros(self.shape.batch, frames, *part.size, dtype=part.dtype, device=device)
            for part in self.codec.parts(self.shape)
        )

    def _room(self, device: torch.device) -> tuple[Tensor, Tensor]:
        frames = self.kept + self.recent + self.shape.chunk_frames
        return empty_frames(self.shape, frames, device), empty_frames(self.shape, frames, device)

    def _tensors(self) -> list[Tensor]:
        of_layers = (*self._coded, *self._recent)
        return [*self._decoded, *(part for parts in of_layers for part in parts)]
