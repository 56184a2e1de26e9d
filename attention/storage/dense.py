"""Storage of keys and values: the interfaces, and the dense store.

A `Storage` is a setting that opens a `Store`. A store holds the latent frames of all layers in
slots; it does not know which frames they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .shape import CacheShape

KeysValues = Sequence[tuple[Tensor, Tensor]]
"""k and v (b, s, n, d) of every layer."""


class Store(Protocol):
    """Un-rotated keys and values of latent frames, in `kept_slots`, followed by `recent` slots.

    If there are recent slots, every frame goes through one first; the cache moves it on.
    """

    kept_slots: int
    recent: int

    @property
    def holds_rotated(self) -> bool:
        """Whether every layer has rotated keys of its own, which last until they change."""

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device."""

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of tensors in main memory or files."""

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) in a slot; those after `kept_slots` are recent."""

    def frame(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """One frame's k and v (b, s, n, d), decoded on the device."""

    def read(self, layer: int, kept_slots: int, recent: int) -> tuple[Tensor, Tensor]:
        """Keys (b, s, n, d) of the first `kept_slots` and `recent` slots; values with room.

        The room for active frames is behind the values. Both are valid until the next read.
        """

    def select(self, kept_slots: Sequence[int], recent: Sequence[int]) -> None:
        """Move the slots, given in rising order, to the front; the others become free."""

    def arrange(self, layer: int, slots: Sequence[int]) -> None:
        """Give kept slot i of a layer the stored content of `slots[i]`, bit for bit."""

    def rotated(self, layer: int) -> Tensor:
        """Memory for a layer's rotated keys (b, s, n, d), with room for active frames behind."""

    def state(self, kept_slots: int, recent: int) -> dict[str, Tensor]:
        """The stored content of the first `kept_slots` and `recent` slots, on the CPU."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the content that `state` returned."""

    def grow(self, kept_slots: int) -> None:
        """Have at least `kept_slots`; their content stays, and rotated keys that are held."""

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""


class Storage(Protocol):
    """A setting that says how keys and values are stored."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Why it cannot be used on `device`, or None."""

    def open(self, shape: CacheShape, frames: int, room: int, device: torch.device) -> Store:
        """A store of `frames` latent frames, with `room` for recent slots among them."""

    def planned_bytes(self, shape: CacheShape, frames: int, room: int) -> int:
        """Exact value of `Store.bytes`."""

    def planned_offloaded(self, shape: CacheShape, frames: int, room: int) -> int:
        """Exact value of `Store.offloaded_bytes`."""


@dataclass(frozen=True, slots=True)
class Dense:
    """Store keys and values as the model computes them."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Dense storage works on every device."""
        return None

    def open(self, shape: CacheShape, frames: int, room: int, device: torch.device) -> DenseStore:
        """A store of `frames` kept slots."""
        return DenseStore(shape, frames, device)

    def planned_bytes(self, shape: CacheShape, frames: int, room: int) -> int:
        """Bytes of keys, and of values and rotated keys with room for active frames."""
        copies = shape.layers if shape.hold_rotated else 1
        total = shape.layers * frames + (shape.layers + copies) * (frames + shape.chunk_frames)
        return total * shape.frame_values * shape.dtype.itemsize

    def planned_offloaded(self, shape: CacheShape, frames: int, room: int) -> int:
        """Zero: all tensors are on the device."""
        return 0


DENSE = Dense()


class DenseStore:
    """One tensor of keys and one of values for each layer, which attention reads in place."""

    recent = offloaded_bytes = 0

    def __init__(self, shape: CacheShape, frames: int, device: torch.device) -> None:
        self.shape, self.kept_slots = shape, frames
        layers, room = range(shape.layers), frames + shape.chunk_frames
        self._keys = [empty_frames(shape, frames, device) for _ in layers]
        self._values = [empty_frames(shape, room, device) for _ in layers]
        self._rotated = [empty_frames(shape, room, device) for _ in layers[: self._copies]]

    @property
    def holds_rotated(self) -> bool:
        """Whether every layer has rotated keys of its own, which last until they change."""
        return self.shape.hold_rotated

    @property
    def bytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(tensor.nbytes for tensor in (*self._keys, *self._values, *self._rotated))

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into a slot."""
        at = frame_slice(self.shape, slot)
        self._keys[layer][:, at] = k
        self._values[layer][:, at] = v

    def frame(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Views of one frame's k and v (b, s, n, d)."""
        at = frame_slice(self.shape, slot)
        return self._keys[layer][:, at], self._values[layer][:, at]

    def read(self, layer: int, kept_slots: int, recent: int) -> tuple[Tensor, Tensor]:
        """Views of the keys in the first `kept_slots`, and of all values with room."""
        return self._keys[layer][:, : kept_slots * self.shape.frame_tokens], self._values[layer]

    def select(self, kept_slots: Sequence[int], recent: Sequence[int]) -> None:
        """Move the slots, given in rising order, to the front."""
        for layer in range(self.shape.layers):
            self.arrange(layer, kept_slots)

    def arrange(self, layer: int, slots: Sequence[int]) -> None:
        """Give slot i of a layer the content of `slots[i]`."""
        into, chosen = changed_slots(slots)
        for tensors in (self._keys, self._values):
            frames = self._by_frame(tensors[layer])
            frames[:, into] = frames[:, chosen]

    def write_heads(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into another slot for each head; slots (n,)."""
        heads = torch.arange(self.shape.heads)
        for tensors, x in ((self._keys, k), (self._values, v)):
            self._by_frame(tensors[layer])[:, slots, :, heads] = x.permute(2, 0, 1, 3)

    def select_heads(self, slots: Tensor) -> None:
        """Move the `slots` (layers, n, f) of each layer and head to the front."""
        heads = torch.arange(self.shape.heads)
        for layer, chosen in enumerate(slots):
            for tensors in (self._keys, self._values):
                frames = self._by_frame(tensors[layer])
                moved = [frames[:, head_slots, :, heads] for head_slots in chosen.T]
                for slot, content in enumerate(moved):  # (n, b, t, d)
                    frames[:, slot] = content.permute(1, 2, 0, 3)

    def rotated(self, layer: int) -> Tensor:
        """The layer's own buffer, or the one that all layers share."""
        return self._rotated[layer % self._copies]

    def state(self, kept_slots: int, recent: int) -> dict[str, Tensor]:
        """Keys and values (b, s, n, d) of every layer, copied to the CPU."""
        stop = kept_slots * self.shape.frame_tokens
        parts = {"keys": self._keys, "values": self._values}
        return {
            f"{name}.{layer}": tensor[:, :stop].to("cpu", copy=True)
            for name, tensors in parts.items()
            for layer, tensor in enumerate(tensors)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the content that `state` returned."""
        for layer in range(self.shape.layers):
            for into, name in ((self._keys, "keys"), (self._values, "values")):
                content = tensors[f"{name}.{layer}"]
                into[layer][:, : content.shape[1]] = content

    def grow(self, kept_slots: int) -> None:
        """Have `kept_slots`; their content stays, and rotated keys."""
        grown = DenseStore(self.shape, kept_slots, self._keys[0].device)
        for old, new in (
            (self._keys, grown._keys),
            (self._values, grown._values),
            (self._rotated, grown._rotated),
        ):
            for before, after in zip(old, new, strict=True):
                stop = self.kept_slots * self.shape.frame_tokens
                after[:, :stop] = before[:, :stop]
        self._keys, self._values, self._rotated = grown._keys, grown._values, grown._rotated
        self.kept_slots = kept_slots

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        for tensors in (self._keys, self._values, self._rotated):
            for layer, tensor in enumerate(tensors):
                tensors[layer] = tensor.to(device)

    def _by_frame(self, tensor: Tensor) -> Tensor:
        frames: Tensor = tensor.unflatten(1, (-1, self.shape.frame_tokens))
        return frames  # (b, f, t, n, d)

    @property
    def _copies(self) -> int:
        return self.shape.layers if self.shape.hold_rotated else 1


def changed_slots(slots: Sequence[int]) -> tuple[list[int], list[int]]:
    """Where i != `slots[i]`: all such i, and their `slots[i]`."""
    into = [place for place, slot in enumerate(slots) if slot != place]
    return into, [slots[place] for place in into]


def empty_frames(shape: CacheShape, frames: int, device: torch.device) -> Tensor:
    """Memory (b, s, n, d) for `frames` latent frames of one layer, with anything in it.

    A frame is written before it is read. Clearing all of them would keep the first chunk waiting.
    """
    size = shape.batch, frames * shape.frame_tokens, shape.heads, shape.head_dim
    return torch.empty(size, dtype=shape.dtype, device=device)


def frame_slice(shape: CacheShape, slot: int) -> slice:
    """The tokens of a slot."""
    return slice(slot * shape.frame_tokens, (slot + 1) * shape.frame_tokens)
