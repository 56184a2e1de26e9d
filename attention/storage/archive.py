"""Latent frames that left a KV cache, coded, in main memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from .codec import AS_COMPUTED, Codec, coded_frame_bytes, decode
from .dense import KeysValues, Storage
from .packed import Packed
from .placement import Parts, parts_in_main_memory
from .shape import CacheShape


def archive_codec(storage: Storage) -> Codec:
    """The codec of a window's older frames, which its archive shares."""
    return storage.codec if isinstance(storage, Packed) else AS_COMPUTED


class FrameArchive:
    """Keys and values of latent frames in slots of main memory, pinned for a CUDA device.

    `frames` lists the frame in each slot. With a `limit` the oldest frame makes room for the next;
    without one the archive grows.
    """

    def __init__(
        self, shape: CacheShape, codec: Codec, slots: int, limit: int | None, device: torch.device
    ) -> None:
        self.shape, self.codec, self.limit = shape, codec, limit
        self.frames: list[int] = []
        self._device = device
        self._layers = self._open(slots)

    @property
    def bytes(self) -> int:
        """Bytes of all slots, whether they hold a frame or not."""
        return sum(part.nbytes for parts in self._layers for part in parts)

    @property
    def slots(self) -> int:
        """Slots for frames, of which `frames` fill the first."""
        return len(self._layers[0][0])

    def put(self, frame: int, layers: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Code one frame's k and v (b, s, n, d) of every layer into a slot."""
        slot = self._slot()
        for parts, (k, v) in zip(self._layers, layers, strict=True):
            for part, code in zip(parts, self.codec.encode(k, v), strict=True):
                part[slot] = code
        self.frames[slot : slot + 1] = [frame]

    def get(self, frame: int) -> KeysValues:
        """One frame's k and v (b, s, n, d) of every layer, whose codes the device decodes.

        Only CUDA keeps the memory of a queued copy alive until it is done.
        """
        slot, queued = self.frames.index(frame), self._device.type == "cuda"
        coded = (
            [part[slot, :, None].to(self._device, non_blocking=queued) for part in parts]
            for parts in self._layers
        )
        decoded = (decode(self.codec, parts, self.shape) for parts in coded)
        return [(k.flatten(1, 2), v.flatten(1, 2)) for k, v in decoded]

    def move(self, device: torch.device) -> None:
        """Decode on another device from now on."""
        self._device = device

    def clear(self) -> None:
        """Forget all frames; their slots stay."""
        self.frames.clear()

    def state(self) -> dict[str, Tensor]:
        """The codes of all frames, copied, in the order of `frames`."""
        return {
            f"archive.{layer}.{i}": part[: len(self.frames)].to("cpu", copy=True)
            for layer, parts in enumerate(self._layers)
            for i, part in enumerate(parts)
        }

    def restore(self, frames: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        """Take the `frames` whose codes `state` returned; ValueError if they are too many."""
        if self.limit is not None and len(frames) > self.limit:
            raise ValueError(f"an archive of {self.limit} latent frames cannot hold {len(frames)}")
        if len(frames) > self.slots:
            self._grow(len(frames))
        self.frames = [*frames]
        for layer, parts in enumerate(self._layers):
            for i, part in enumerate(parts):
                part[: len(frames)] = tensors[f"archive.{layer}.{i}"]

    def _slot(self) -> int:
        """A free slot, or that of the oldest frame."""
        count = len(self.frames)
        if self.limit is not None and count == self.limit:
            return self.frames.index(min(self.frames))
        if count == self.slots:
            self._grow(max(count + 1, 2 * count))
        return count

    def _grow(self, slots: int) -> None:
        """Have more slots; their content stays."""
        slots = slots if self.limit is None else min(slots, self.limit)
        old, self._layers = self._layers, self._open(slots)
        for before, after in zip(old, self._layers, strict=True):
            for part, grown in zip(before, after, strict=True):
                grown[: len(part)] = part

    def _open(self, slots: int) -> list[Parts]:
        size, leading = self.codec.parts(self.shape), (slots, self.shape.batch)
        return parts_in_main_memory(self.shape.layers, size, leading, self._device)


def planned_archive_bytes(shape: CacheShape, storage: Storage, slots: int) -> int:
    """Exact value of `FrameArchive.bytes`; an archive that grows only starts there."""
    return shape.layers * slots * coded_frame_bytes(archive_codec(storage), shape)
