"""Where a KV cache's coded frames lie: on the device, in main memory, or in a file.

From elsewhere a layer is fetched into one of two buffers on the device while the layer before it
is computed, so that on a GPU the copy hides behind the computation. On a CPU the same code copies.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from .quantize import Part

Parts = tuple[Tensor, ...]
"""What one layer's frames are stored as, each (f, b, ...)."""


class Shelf(Protocol):
    """The coded frames of all layers."""

    layers: list[Parts]

    @property
    def device_bytes(self) -> int:
        """Bytes on the device."""

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or in files."""

    def fetch(self, layer: int, frames: int) -> Parts:
        """The first `frames` of a layer on the device, until the next but one is fetched."""

    def changed(self) -> None:
        """Something was written to `layers`: what was fetched in advance is outdated."""

    def move(self, device: torch.device) -> None:
        """Compute on another device from now on."""


class Placement(Protocol):
    """A place for coded frames."""

    @property
    def buffers(self) -> int:
        """How many layers' frames are on the device beside it, or instead: 0 if all of them."""

    def shelf(
        self, layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
    ) -> Shelf:
        """A shelf of zeros; every part has `leading` axes (f, b) in front."""


@dataclass(frozen=True, slots=True)
class OnDevice:
    """Where they are computed with."""

    @property
    def buffers(self) -> int:
        """None."""
        return 0

    def shelf(
        self, layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
    ) -> Shelf:
        """Tensors on the device."""
        return DeviceShelf([_zeros(size, leading, device) for _ in range(layers)])


@dataclass(frozen=True, slots=True)
class InMainMemory:
    """In main memory, pinned where there is an accelerator."""

    @property
    def buffers(self) -> int:
        """The layer in use and the next."""
        return 2

    def shelf(
        self, layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
    ) -> Shelf:
        """Tensors in main memory."""
        home = torch.device("meta") if device.type == "meta" else torch.device("cpu")
        parts = [_zeros(size, leading, home) for _ in range(layers)]
        if device.type == "cuda":
            parts = [tuple(part.pin_memory() for part in of_layer) for of_layer in parts]
        return OffloadedTier(parts, device)


@dataclass(frozen=True, slots=True)
class OnDisk:
    """In files of their own below `folder`, mapped into memory; gone with the cache.

    For histories longer than main memory: the system keeps the pages it has room for.
    """

    folder: Path

    @property
    def buffers(self) -> int:
        """The layer in use and the next."""
        return 2

    def shelf(
        self, layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
    ) -> Shelf:
        """Tensors in files."""
        if device.type == "meta":
            return InMainMemory().shelf(layers, size, leading, device)
        self.folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=self.folder))
        parts = [
            tuple(_mapped(own / f"{layer}.{i}.kv", part, leading) for i, part in enumerate(size))
            for layer in range(layers)
        ]
        shelf = OffloadedTier(parts, device)
        weakref.finalize(shelf, shutil.rmtree, own, ignore_errors=True)
        return shelf


ON_DEVICE = OnDevice()


class DeviceShelf:
    """Everything is there already."""

    offloaded_bytes = 0

    def __init__(self, layers: list[Parts]) -> None:
        self.layers = layers

    @property
    def device_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(part.nbytes for parts in self.layers for part in parts)

    def fetch(self, layer: int, frames: int) -> Parts:
        """Views."""
        return tuple(part[:frames] for part in self.layers[layer])

    def changed(self) -> None:
        """Views change with it."""

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`."""
        self.layers = [tuple(part.to(device) for part in parts) for parts in self.layers]


class OffloadedTier:
    """Layers are fetched, each while the one before it is computed, into two buffers by turns."""

    def __init__(self, layers: list[Parts], device: torch.device) -> None:
        self.layers = layers
        self.move(device)

    @property
    def device_bytes(self) -> int:
        """Bytes of both buffers."""
        return sum(part.nbytes for parts in self._buffers for part in parts)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of all layers."""
        return sum(part.nbytes for parts in self.layers for part in parts)

    def fetch(self, layer: int, frames: int) -> Parts:
        """The first `frames` of a layer, if need be from afar; the next layer is on its way."""
        if self._coming != (layer, frames):
            self._start(layer, frames)
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        parts = self._buffers[self._turn]
        self._start((layer + 1) % len(self.layers), frames)
        return tuple(part[:frames] for part in parts)

    def changed(self) -> None:
        """The next layer must be fetched again."""
        self._coming = None

    def move(self, device: torch.device) -> None:
        """Have the buffers on `device`."""
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._buffers = [
            tuple(torch.zeros_like(part, device=device) for part in self.layers[0]) for _ in "ab"
        ]
        self._turn, self._coming = 0, None

    _coming: tuple[int, int] | None
    """The layer, and how many frames of it, that the buffer of the next turn gets."""

    def _start(self, layer: int, frames: int) -> None:
        """Copy a layer into the other buffer, beside what the device is doing."""
        self._turn = 1 - self._turn
        if self._stream is not None:  # what was computed from that buffer is computed first
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            for into, part in zip(self._buffers[self._turn], self.layers[layer], strict=True):
                into[:frames].copy_(part[:frames], non_blocking=True)
        self._coming = layer, frames


def _zeros(size: Sequence[Part], leading: tuple[int, int], device: torch.device) -> Parts:
    return tuple(
        torch.zeros(*leading, *part.size, dtype=part.dtype, device=device) for part in size
    )


def _mapped(path: Path, part: Part, leading: tuple[int, int]) -> Tensor:
    """Zeros in a file; a sparse one where the file system can."""
    count = math.prod((*leading, *part.size)) * part.dtype.itemsize
    stored = torch.from_file(str(path), shared=True, size=count, dtype=torch.uint8)
    return stored.view(part.dtype).view(*leading, *part.size)
