"""Planned bytes of a KV cache at common sizes, with the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...attention.cache.kv_cache import planned_bytes, planned_offloaded
from ...attention.cache.policy import WindowSink
from ...attention.storage.codec import coded_frame_bytes
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed, with_placement
from ...attention.storage.placement import InMainMemory
from ...attention.storage.quantize import FLOAT8, INT4, INT8
from ...attention.storage.shape import CacheShape

CHUNK = 3
SHAPES = {
    "demo, 96x64": CacheShape(6, 1, 4, 48, 4, 6, CHUNK, torch.bfloat16),
    "1.3B, 832x480": CacheShape(30, 1, 12, 128, 30, 52, CHUNK, torch.bfloat16),
    "14B, 832x480": CacheShape(40, 1, 40, 128, 30, 52, CHUNK, torch.bfloat16),
}
STORAGES: dict[str, Storage] = {
    "bf16": DENSE,
    "fp8": Packed(FLOAT8, CHUNK),
    "int8": Packed(INT8, CHUNK),
    "int4": Packed(INT4, CHUNK),
    "bf16 in main memory": with_placement(DENSE, InMainMemory()),
    "int8 in main memory": with_placement(Packed(INT8, CHUNK), InMainMemory()),
}
WINDOW = WindowSink(21, 3)


@dataclass(frozen=True, slots=True)
class PlannedCache:
    """Bytes on the device and in main memory, and the arithmetic for the device bytes."""

    name: str
    device_bytes: int
    offloaded_bytes: int
    arithmetic: str


def planned_caches() -> list[PlannedCache]:
    """Plan every shape with every storage, for one guidance branch."""
    return [
        PlannedCache(
            f"{size}, {name}",
            planned_bytes(shape, WINDOW, None, storage),
            planned_offloaded(shape, WINDOW, None, storage),
            arithmetic(shape, storage),
        )
        for size, shape in SHAPES.items()
        for name, storage in STORAGES.items()
    ]


def arithmetic(shape: CacheShape, storage: Storage) -> str:
    """Return the sum with every factor named; a test checks that it equals the plan."""
    frame = shape.frame_values * shape.dtype.itemsize
    window, layers, active = WINDOW.window_frames, shape.layers, shape.chunk_frames
    sizes = f"{shape.frame_tokens} tokens x {shape.heads} heads x {shape.head_dim} x 2 bytes"
    frame_text = f"{frame} ({sizes})"
    if not isinstance(storage, Packed):
        return (
            f"{layers} layers x ({window} keys + 2 x ({window} + {active}) values and rotated "
            f"keys) x {frame_text}"
        )
    older, coded = window - storage.recent_frames, coded_frame_bytes(storage.codec, shape)
    here = storage.placement.buffers or layers
    return (
        f"{here} layers x {older} x {coded} coded + (2 x {layers} layers x "
        f"{storage.recent_frames} newest + 2 x ({window} + {active}) decoded) x {frame_text}"
    )
