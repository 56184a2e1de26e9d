"""A stand-in for the native part of comfy-aimdo, by which ComfyUI keeps weights ("DynamicVRAM").

A card's room for weights is that of its own stand-in. Weights that nobody computes with are evicted
for all other memory, and hold garbage from then on.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from longtake.tests.support.device.queues import DEVICE, Device
from longtake.tests.support.device.tensors import DeviceTensor, accesses_of

MB = 1 << 20
BUFFER_BYTES, MOST_PINNED = 2 * MB, 256 * MB
FIRST = 1 << 40  # an address


@dataclass(eq=False)
class Weight:
    """The place of one layer's weight and bias, with room on the card or without."""

    bytes: int
    content: Tensor | None = None
    faults: int = 0
    pins: int = 0

    def evict(self) -> int:
        """Give the room back; returns the bytes."""
        if self.content is None or self.pins:
            return 0
        forget(self.content.data_ptr(), self.bytes)
        self.content = None
        return self.bytes


@dataclass(eq=False)
class Weights:
    """All layers' places of a model on one card, as `comfy_aimdo.model_vbar.ModelVBAR`."""

    max_size: int
    device: int
    offset: int = 0
    places: dict[int, Weight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ALL.append(self)

    def prioritize(self, malloc_async_clamp: Any = None) -> None:
        """Evict all other models first."""
        ALL.remove(self)
        ALL.append(self)

    def alloc(self, count: int) -> tuple[Weights, int, int]:
        """A place for `count` bytes."""
        self.offset = (self.offset + 511) & ~511
        if self.offset + count > self.max_size:
            raise MemoryError("VBAR OOM")
        address = FIRST + self.offset
        self.offset += count
        self.places[address] = Weight(count)
        return self, address, count

    def fault(self, address: int, size: int) -> Any:
        """Pin a place and give its signature, another one if it holds nothing; None: no room."""
        place = self.places[address]
        FAULTS.count += 1
        if FAULTS.every and FAULTS.count % FAULTS.every == 0:
            evict(self.device, 1 << 60)
        if place.content is None:
            if FAULTS.refused(self, place) or not make_room(self.device, size):
                return None
            place.content = memory(size)
            accesses_of(DeviceTensor(place.content, self.device))
            place.faults += 1
        place.pins += 1
        return (ctypes.c_uint32 * 1)(place.faults)

    def unpin(self, address: int, size: int) -> None:
        """Nobody computes with a place any more."""
        place = self.places[address]
        place.pins = max(0, place.pins - 1)

    def loaded_size(self) -> int:
        """Bytes of the places that hold something."""
        return sum(place.bytes for place in self.places.values() if place.content is not None)

    def free_memory(self, count: int) -> int:
        """Evict places until there are `count` bytes."""
        freed = 0
        for place in reversed(self.places.values()):
            if freed < count:
                freed += place.evict()
        return freed


@dataclass
class Faults:
    """When weights are evicted though there is room, and which share of a model gets no room."""

    count: int = 0
    every: int = 0
    share: float = 1.0

    def refused(self, weights: Weights, place: Weight) -> bool:
        """Whether a place is behind the part of a model that may be on the card."""
        places = list(weights.places.values())
        return places.index(place) >= self.share * len(places)


def refuse_copy(self: Any, _: Any) -> Any:
    """Native memory that two objects own would be freed twice."""
    raise TypeError(f"{type(self).__name__} cannot be copied")


Weights.__deepcopy__ = refuse_copy  # type: ignore[attr-defined]
ALL: list[Weights] = []
FAULTS = Faults()


def memory(count: int) -> Tensor:
    """Memory that holds garbage, for whatever mode."""
    with torch.inference_mode(False):
        made = torch.empty(count, dtype=torch.uint8)
    forget(made.data_ptr(), count)
    return made


def forget(address: int, count: int) -> None:
    """Fill memory with bytes that are no numbers."""
    ctypes.memset(address, 255, count)


def evict(device: int, count: int) -> int:
    """Evict weights of a card, those of the last model last, until `count` bytes are free."""
    freed = 0
    for weights in ALL:
        if weights.device == device and freed < count:
            freed += weights.free_memory(count - freed)
    return freed


def make_room(device: int, count: int) -> bool:
    """Whether a card has `count` bytes, by evicting weights."""
    missing = DEVICE.held[device] + count - DEVICE.capacity_bytes
    return missing <= 0 or evict(device, missing) >= missing


def hold(index: int, count: int) -> None:
    """Take memory of a card, of which weights make room."""
    make_room(index, count)
    Device.hold(DEVICE, index, count)


class HostBuffer:
    """As `comfy_aimdo.host_buffer.HostBuffer`: pinned memory that grows in place."""

    __deepcopy__ = refuse_copy

    def __init__(self, size: int, prewarm: int = 0, max_grow_size: int = 0, **_: Any) -> None:
        self.size = int(size)
        self._memory = memory(max(int(size), min(int(max_grow_size), MOST_PINNED)))

    def get_raw_address(self) -> int:
        return self._memory.data_ptr()

    def extend(self, size: int, **_: Any) -> int:
        if self.size + size > len(self._memory):
            raise RuntimeError("HostBuffer.extend failed")
        self.size += int(size)
        return self.get_raw_address()

    def truncate(self, size: int, do_unregister: bool = True) -> None:  # noqa: FBT001, FBT002
        forget(self.get_raw_address() + int(size), self.size - int(size))
        self.size = int(size)

    def read_file_slice(  # noqa: PLR0913, PLR0917
        self, file: int, at: int, size: int, offset: int = 0, stream: int = 0, device_ptr: int = 0,
        device: Any = -1,
    ) -> None:  # fmt: skip
        data = os.pread(file, size, at)
        ctypes.memmove(self.get_raw_address() + offset, data, size)
        if device_ptr:
            ctypes.memmove(device_ptr, data, size)
        self.size = max(self.size, offset + size)


class CardBuffer:
    """As `comfy_aimdo.vram_buffer.VRAMBuffer`: room for weights on their way."""

    def __init__(self, max_size: int, device: int) -> None:
        self.device, self._memory = device, memory(BUFFER_BYTES)

    def size(self) -> int:
        return BUFFER_BYTES

    def get(self, size: int, offset: int = 0) -> tuple[CardBuffer, int, int]:
        if offset + size > BUFFER_BYTES:
            raise RuntimeError("VRAM grow failed")
        return self, offset, size

    def part(self, offset: int, size: int) -> Tensor:
        """Some of its bytes."""
        return self._memory[offset : offset + size]


class FileMemory:
    """As `comfy_aimdo.model_mmap.ModelMMAP`: a file that is read where it is used."""

    def __init__(self, path: Any) -> None:
        self._memory, self._file = numpy.memmap(path, mode="c"), os.open(path, os.O_RDONLY)

    def get(self) -> int:
        return int(self._memory.ctypes.data)

    def get_file_handle(self) -> int:
        return self._file

    def bounce(self) -> bool:
        return True


def to_tensor(place: Any, device: torch.device) -> Tensor:
    """The bytes of a place on the card."""
    owner, address, size = place
    if isinstance(owner, CardBuffer):
        return DeviceTensor(owner.part(address, size), owner.device)
    content = owner.places[address].content
    return DeviceTensor(content, owner.device)


def pinned(buffer: HostBuffer) -> Tensor:
    """The bytes of a host buffer."""
    made = buffer._memory[: buffer.size]
    made.untyped_storage().longtake_pinned = True  # type: ignore[attr-defined]
    return made


def read_to_device(  # noqa: PLR0913, PLR0917
   file: int, at: int, size: int, stream: Any, address: int, device: int,
    mark_cold: bool = True,  # noqa: FBT001, FBT002
) -> None:  # fmt: skip
    """Read a part of a file to the card."""
    ctypes.memmove(address, os.pread(file, size, at), size)


def move_bare(model: nn.Module, device: torch.device) -> None:
    """Move parameters of modules that have modules inside to the card, as `param.data = ` does.

    A parameter of the stand-in is another object.
    """
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if own.keys() == {name for name, _ in module.named_parameters()}:
            continue
        for name, parameter in own.items():
            moved = parameter.data.to(device, getattr(module, f"{name}_comfy_model_dtype", None))
            setattr(module, name, nn.Parameter(moved, requires_grad=False))


def begin() -> None:
    """Let the ComfyUI of this process keep weights so; `cuda.begin` comes first."""
    import comfy.memory_management
    import comfy.model_patcher
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_mmap
    import comfy_aimdo.model_vbar
    import comfy_aimdo.torch
    import comfy_aimdo.vram_buffer

    comfy_aimdo.host_buffer.HostBuffer = HostBuffer
    comfy_aimdo.host_buffer.read_file_to_device = read_to_device
    comfy_aimdo.model_mmap.ModelMMAP = FileMemory
    comfy_aimdo.model_vbar.ModelVBAR = Weights
    comfy_aimdo.torch.aimdo_to_tensor = to_tensor
    comfy_aimdo.torch.hostbuf_to_tensor = pinned
    comfy_aimdo.vram_buffer.VRAMBuffer = CardBuffer
    done = SimpleNamespace(cudaHostRegister=lambda *_: 0, cudaHostUnregister=lambda *_: 0)
    torch.cuda.cudart = lambda: done
    DEVICE.hold = hold  # type: ignore[method-assign]
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
    kind: Any = comfy.model_patcher.ModelPatcherDynamic
    load_list = kind._load_list

    def with_moved(patcher: Any, *args: Any, default_device: Any = None, **kwargs: Any) -> Any:
        if default_device is not None:
            move_bare(patcher.model, default_device)
        return load_list(patcher, *args, **kwargs)

    kind._load_list = with_moved
