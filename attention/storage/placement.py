"""Where a KV cache's coded frames are stored: on the device, in main memory, or in a file.

An offloaded layer is fetched into one of two buffers on the device while the layer before it is
computed, so that on a GPU the copy overlaps with the computation. On a CPU the same code copies.
"""

from __future__ import annotations

import itertools
import math
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...machine.temporary_files import temporary_folder
from ..pieces import runs
from .codec import Part
from .main_memory import pinned_parts

Parts = tuple[Tensor, ...]
"""The coded frames of one layer, each part (f, b, ...)."""


class Tier(Protocol):
    """The coded frames of all layers."""

    layers: list[Parts]

    @property
    def device_bytes(self) -> int:
        """Bytes on the device."""

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or in files."""

    def fetch(self, layer: int, slots: Sequence[int], ahead: Sequence[int]) -> Parts:
        """The frames in rising `slots` of a layer on the device, one behind another.

        Valid until two more layers are fetched. `ahead` are the slots that the next layer reads.
        """

    def stop_prefetch(self) -> None:
        """Wait for copies that were started ahead, and drop them: `layers` will be written to."""

    def move(self, device: torch.device) -> None:
        """Fetch to another device from now on."""


class Placement(Protocol):
    """A setting that says where coded frames are stored."""

    @property
    def buffers(self) -> int:
        """Layers that are buffered on the device; 0 if all layers are stored there."""

    def open(
        self, layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
    ) -> Tier:
        """A tier with anything in it; every part has `leading` axes (f, b) in front.

        A frame is written before it is read.
        """


@dataclass(frozen=True, slots=True)
class OnDevice:
    """On the device that computes."""

    @property
    def buffers(self) -> int:
        """Zero: all layers are stored on the device."""
        return 0

    def open(
        self, layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
    ) -> Tier:
        """A tier of tensors on the device."""
        return DeviceTier([empty_parts(size, leading, device) for _ in range(layers)])


@dataclass(frozen=True, slots=True)
class InMainMemory:
    """In main memory, pinned for a CUDA device."""

    @property
    def buffers(self) -> int:
        """The layer in use and the next one."""
        return 2

    def open(
        self, layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
    ) -> Tier:
        """A tier of tensors in main memory."""
        return OffloadedTier(parts_in_main_memory(layers, size, leading, device), device)


@dataclass(frozen=True, slots=True)
class OnDisk:
    """In memory-mapped files below `folder`, deleted with the cache.

    For histories longer than main memory: the system caches the pages it has room for.
    """

    folder: Path

    @property
    def buffers(self) -> int:
        """The layer in use and the next one."""
        return 2

    def open(
        self, layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
    ) -> Tier:
        """A tier of tensors in files."""
        if device.type == "meta":
            return InMainMemory().open(layers, size, leading, device)
        self.folder.mkdir(parents=True, exist_ok=True)
        own = temporary_folder(self.folder)
        parts = [
            tuple(_map_file(own / f"{layer}.{i}.kv", part, leading) for i, part in enumerate(size))
            for layer in range(layers)
        ]
        tier = OffloadedTier(parts, device)
        weakref.finalize(tier, _delete, parts, own)
        return tier


ON_DEVICE = OnDevice()


class DeviceTier:
    """All layers are on the device."""

    offloaded_bytes = 0

    def __init__(self, layers: list[Parts]) -> None:
        self.layers = layers

    @property
    def device_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(part.nbytes for parts in self.layers for part in parts)

    def fetch(self, layer: int, slots: Sequence[int], ahead: Sequence[int]) -> Parts:
        """Views of frames of a layer, or copies where other slots lie between them."""
        chosen = runs(slots) or [slice(0, 0)]
        return tuple(
            part[chosen[0]] if len(chosen) == 1 else torch.cat([part[run] for run in chosen])
            for part in self.layers[layer]
        )

    def stop_prefetch(self) -> None:
        """Do nothing: views show every change."""

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`."""
        self.layers = [tuple(part.to(device) for part in parts) for parts in self.layers]


class OffloadedTier:
    """Fetches each layer into one of two buffers while the layer before it is computed."""

    def __init__(self, layers: list[Parts], device: torch.device) -> None:
        self.layers = layers
        self._stream: torch.cuda.Stream | None = None
        self._prefetched: tuple[int, list[int]] | None = None  # a layer and its slots
        self.move(device)

    @property
    def device_bytes(self) -> int:
        """Bytes of both buffers."""
        return sum(part.nbytes for parts in self._buffers for part in parts)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of all layers."""
        return sum(part.nbytes for parts in self.layers for part in parts)

    def fetch(self, layer: int, slots: Sequence[int], ahead: Sequence[int]) -> Parts:
        """The frames in `slots` of a layer on the device; starts to prefetch the next layer."""
        if self._prefetched != (layer, [*slots]):
            self._start(layer, slots)
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        parts = self._buffers[self._current]
        self._start((layer + 1) % len(self.layers), ahead)
        return tuple(part[: len(slots)] for part in parts)

    def stop_prefetch(self) -> None:
        """Drop the prefetched layer."""
        if self._stream is not None and self._prefetched is not None:
            self._stream.synchronize()
        self._prefetched = None

    def move(self, device: torch.device) -> None:
        """Allocate the buffers on `device`."""
        self.stop_prefetch()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._buffers = [
            tuple(torch.empty_like(part, device=device) for part in self.layers[0]) for _ in "ab"
        ]
        if self._stream is not None:  # or the next owner of their memory would get a late copy
            for part in itertools.chain(*self._buffers):
                part.record_stream(self._stream)
        self._current = 0  # the buffer written last

    def _start(self, layer: int, slots: Sequence[int]) -> None:
        """Start to copy frames of a layer into the other buffer, beside the computation."""
        self._current = 1 - self._current
        if self._stream is not None:  # wait until computations that read that buffer are done
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            for into, part in zip(self._buffers[self._current], self.layers[layer], strict=True):
                copied = 0
                for run in runs(slots):
                    stop = copied + run.stop - run.start
                    into[copied:stop].copy_(part[run], non_blocking=self._stream is not None)
                    copied = stop
        self._prefetched = layer, [*slots]


def copy_frames(old: Tier, new: Tier, count: int) -> None:
    """Copy the first `count` frames of all layers; no tensor of `old` is in use afterwards."""
    for before, after in zip(old.layers, new.layers, strict=True):
        for part, into in zip(before, after, strict=True):
            into[:count] = part[:count]


def parts_in_main_memory(
    layers: int, size: Sequence[Part], leading: tuple[int, int], device: torch.device
) -> list[Parts]:
    """Memory for coded frames of all layers, from which copies to a CUDA `device` are queued."""
    if device.type == "cuda":
        return pinned_parts(layers, size, leading)
    home = torch.device("meta") if device.type == "meta" else torch.device("cpu")
    return [empty_parts(size, leading, home) for _ in range(layers)]


def empty_parts(size: Sequence[Part], leading: tuple[int, int], device: torch.device) -> Parts:
    """Memory for coded frames, with anything in it."""
    return tuple(
        torch.empty(*leading, *part.size, dtype=part.dtype, device=device) for part in size
    )


def _delete(layers: list[Parts], folder: Path) -> None:
    """Delete the files of a tier, which on Windows none of its tensors may map any more."""
    layers.clear()
    shutil.rmtree(folder, ignore_errors=True)


def _map_file(path: Path, part: Part, leading: tuple[int, int]) -> Tensor:
    """Zeros in a file, sparse if the file system supports it."""
    count = math.prod((*leading, *part.size)) * part.dtype.itemsize
    size = max(1, count)  # Windows maps no empty file
    stored = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)[:count]
    return stored.view(part.dtype).view(*leading, *part.size)
