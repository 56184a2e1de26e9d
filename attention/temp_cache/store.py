"""How the entries of a merged cache are stored: as the model computes them, or in few bits.

Coded keys are centred and scaled channel by channel, by the spread of the first latent frame's
keys, since channels differ from one another (KIVI, arXiv 2402.02750). Each key and each value then
has its own scale, so replacing one entry changes no other. A layer is decoded into memory that all
layers share.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..scatter import batch_head_index
from ..storage.dense import Storage
from ..storage.packed import Packed
from ..storage.quantize import Float8, Integers, RowCodec
from ..storage.shape import CacheShape
from .entries import Entries, EntryLayout, empty_facts, fact_bytes

BIAS = torch.float32
MIN_RELATIVE_SPREAD = 1 / 32
"""The smallest spread of a channel, as a share of the head's widest channel."""
MIN_SPREAD = 2.0**-14
PER_LAYER = ("centre", "spread")
"""Tensors that a layer has once; all others have a row for each slot."""
SCORE = "retention_score"
NOT_KNOWN = torch.finfo(torch.float32).max
"""A score of inf in a state: a file of one holds finite numbers alone."""


def open_entries(
    shape: CacheShape, layout: EntryLayout, storage: Storage, device: torch.device | str
) -> EntryStore:
    """A store of empty entries."""
    codec = row_codec(storage)
    if codec is None:
        return EntryStore(shape, layout, device)
    return CodedEntries(shape, layout, codec, device)


def planned_bytes(shape: CacheShape, layout: EntryLayout, storage: Storage) -> int:
    """Exact value of `EntryStore.bytes`."""
    codec, size = row_codec(storage), shape.head_dim * shape.dtype.itemsize
    slots, vectors = layout.slots, shape.batch * shape.heads
    room = slots + shape.chunk_frames * shape.frame_tokens
    if codec is None:
        copies = shape.layers if shape.hold_rotated else 1
        layer_bytes, copy_bytes = (slots + room + 1) * size, room * size
    else:
        copies = 1
        layer_bytes = 2 * (slots * row_bytes(codec, shape.head_dim) + size)
        copy_bytes = 2 * room * size
    bias = room * BIAS.itemsize * (1 if layout.heads_agree else vectors)
    facts = fact_bytes(shape.batch, shape.heads, layout)
    return shape.layers * (facts + vectors * layer_bytes) + copies * (bias + vectors * copy_bytes)


def holds_entries(storage: Storage) -> bool:
    """Whether entries can be stored so: as computed, or all of them in few bits."""
    if not isinstance(storage, Packed):
        return True
    return isinstance(storage.codec, Integers | Float8) and not storage.recent_frames


def row_codec(storage: Storage) -> RowCodec | None:
    """The codec of the entries, None if they are stored as computed.

    Raises ValueError for a storage that entries cannot have.
    """
    if not holds_entries(storage):
        raise ValueError(f"entries are coded one by one, all of them in few bits; got {storage}")
    if not isinstance(storage, Packed):
        return None
    codec = storage.codec
    assert isinstance(codec, Integers | Float8)
    return codec


def row_bytes(codec: RowCodec, width: int) -> int:
    """Bytes of a coded vector."""
    return sum(part.bytes for part in codec.row_parts(width))


class EntryStore:
    """Entries of all layers, stored as computed.

    Later chunks depend on `own`, a dict of tensors for each layer, and on the values, which lie in
    front of room for active frames.
    """

    def __init__(self, shape: CacheShape, layout: EntryLayout, device: torch.device | str) -> None:
        self.shape, self.slots, self.device = shape, layout.slots, torch.device(device)
        room = self.slots + shape.chunk_frames * shape.frame_tokens
        self.own = [self._own(layout) for _ in range(shape.layers)]
        self.values = [self._empty(room) for _ in range(self._value_copies)]
        copies = range(shape.layers if self.holds_rotated else 1)
        self.rotated = [self._empty(room) for _ in copies]
        size = (1, 1) if layout.heads_agree else (shape.batch, shape.heads)
        self.bias = [torch.zeros(*size, room, dtype=BIAS, device=device) for _ in copies]

    @property
    def holds_rotated(self) -> bool:
        """Whether every layer has rotated keys of its own, which last until the next commit."""
        return self.shape.hold_rotated

    @property
    def half_step(self) -> float:
        """The largest error of a stored value, relative to its vector's largest element."""
        return torch.finfo(self.shape.dtype).eps / 2

    @property
    def bytes(self) -> int:
        """Bytes of all tensors held."""
        owned = [tensor for own in self.own for tensor in own.values()]
        return sum(x.nbytes for x in (*owned, *self.values, *self.rotated, *self.bias))

    def begin(self, layer: int, keys: Tensor) -> None:
        """Set the layer's centre from the keys (b, s, n, d) of the first latent frame."""
        self.own[layer]["centre"].copy_(keys.mean(1, keepdim=True).transpose(1, 2))

    def codes(self, layer: int) -> Tensor:
        """The index's codes (b, n, c, w) of a layer's keys.

        Unlike `read`, this leaves rotated keys in place.
        """
        return self.own[layer]["codes"]

    def read(self, layer: int, stop: int, rows: slice = slice(None)) -> Entries:
        """A layer's entries, with keys and values of the first `stop` slots of the batch `rows`.

        They may be changed until the next layer is read or these keys are rotated.
        """
        own = self.own[layer]
        return Entries(keys=own["keys"], values=self._values(layer), **facts_of(own))

    def note_written(self, layer: int, slots: Tensor) -> None:
        """Store the keys and values that were written to `slots` (b, n, s) of the entries read.

        `layer` must be the layer that was read last.
        """

    def workspace(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Memory for rotated keys, values and biases of a layer, with room for active frames.

        Biases are (1, 1, t) where all heads and rows keep the same tokens.
        """
        copy = layer % len(self.rotated)
        return self.rotated[copy], self.values[layer % len(self.values)], self.bias[copy]

    def state(self, layer: int, stop: int) -> dict[str, Tensor]:
        """All state of a layer that later chunks depend on, for the first `stop` slots."""
        tensors = self._state(layer).items()
        state = {name: x if name in PER_LAYER else x[:, :, :stop] for name, x in tensors}
        return {**state, SCORE: state[SCORE].clamp(max=NOT_KNOWN)}

    def restore(self, layer: int, state: Mapping[str, Tensor]) -> None:
        """Replace all entries of a layer by those that `state` returned."""
        self.own[layer]["mass"].zero_()
        for name, tensor in self._state(layer).items():
            tensor[:, :, : state[name].shape[2]].copy_(state[name])
        scores = self.own[layer][SCORE]
        scores.masked_fill_(scores >= NOT_KNOWN, torch.inf)

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        self.device = device
        for tensors in (self.values, self.rotated, self.bias):
            tensors[:] = [tensor.to(device) for tensor in tensors]
        self.own = [{name: x.to(device) for name, x in own.items()} for own in self.own]

    @property
    def _value_copies(self) -> int:
        return self.shape.layers

    def _state(self, layer: int) -> dict[str, Tensor]:
        return {**self.own[layer], "values": self._values(layer)}

    def _own(self, layout: EntryLayout) -> dict[str, Tensor]:
        facts = empty_facts(self.shape.batch, self.shape.heads, layout, self.device)
        return {**facts, "keys": self._empty(self.slots), "centre": self._empty(1)}

    def _values(self, layer: int) -> Tensor:
        return self.values[layer % len(self.values)][:, :, : self.slots]

    def _empty(self, tokens: int) -> Tensor:
        s = self.shape
        size = s.batch, s.heads, tokens, s.head_dim
        return torch.zeros(size, dtype=s.dtype, device=self.device)


class CodedEntries(EntryStore):
    """Entries in few bits, each coded by itself; rotated keys overwrite the decoded ones."""

    def __init__(
        self, shape: CacheShape, layout: EntryLayout, codec: RowCodec, device: torch.device | str
    ) -> None:
        self.codec = codec
        super().__init__(shape, layout, device)

    @property
    def holds_rotated(self) -> bool:
        """False: the next layer needs the memory."""
        return False

    @property
    def half_step(self) -> float:
        """The codec's error, or that of the dtype values are decoded to if it is larger."""
        return max(super().half_step, self.codec.half_step)

    def begin(self, layer: int, keys: Tensor) -> None:
        """Set the layer's centre and the spread of each channel from the first latent frame."""
        super().begin(layer, keys)
        own = self.own[layer]
        centred = keys.transpose(1, 2).float() - own["centre"].float()
        spread = centred.abs().amax(2, keepdim=True)
        widest = spread.amax(-1, keepdim=True)
        own["spread"].copy_(spread.maximum(MIN_RELATIVE_SPREAD * widest).clamp(min=MIN_SPREAD))

    def read(self, layer: int, stop: int, rows: slice = slice(None)) -> Entries:
        """Decode a layer; slots behind `stop` and other rows hold undefined values."""
        own, keys, values = self.own[layer], self.rotated[0][:, :, : self.slots], self._values(0)
        decoded = self._decode(layer, [x[rows, :, :stop] for x in self._parts(layer)], rows)
        for into, content in zip((keys, values), decoded, strict=True):
            into[rows, :, :stop] = content
        return Entries(keys=keys, values=values, **facts_of(own))

    def note_written(self, layer: int, slots: Tensor) -> None:
        """Code the keys and values in `slots` (b, n, s), then decode them as a read would."""
        where, own = batch_head_index(slots), self.own[layer]
        keys, values = self.rotated[0], self.values[0]
        flat = (keys[where].float() - own["centre"].float()) / own["spread"].float()
        coded = (*self.codec.encode_rows(flat), *self.codec.encode_rows(values[where]))
        for part, codes in zip(self._parts(layer), coded, strict=True):
            part[where] = codes
        keys[where], values[where] = self._decode(layer, coded)

    @property
    def _value_copies(self) -> int:
        return 1

    def _state(self, layer: int) -> dict[str, Tensor]:
        return self.own[layer]

    def _own(self, layout: EntryLayout) -> dict[str, Tensor]:
        size = self.shape.batch, self.shape.heads, self.slots
        coded = {
            f"{name}.{i}": torch.zeros(*size, *part.size, dtype=part.dtype, device=self.device)
            for name in ("keys", "values")
            for i, part in enumerate(self.codec.row_parts(self.shape.head_dim))
        }
        spread = {"centre": self._empty(1), "spread": self._empty(1)}
        facts = empty_facts(*size[:2], layout, self.device)
        return {**facts, **coded, **spread}

    def _parts(self, layer: int) -> list[Tensor]:
        """The coded parts (b, n, c, ...) of keys, then of values."""
        return [x for name, x in self.own[layer].items() if name.startswith(("keys.", "values."))]

    def _decode(
        self, layer: int, parts: list[Tensor] | tuple[Tensor, ...], rows: slice = slice(None)
    ) -> tuple[Tensor, ...]:
        """Keys and values (b, n, s, d) of parts (b, n, s, ...) of the batch `rows`."""
        own, half, d = self.own[layer], len(parts) // 2, self.shape.head_dim
        flat = self.codec.decode_rows(parts[:half], d, torch.float32)
        keys = flat * own["spread"][rows].float() + own["centre"][rows].float()
        return keys.to(self.shape.dtype), self.codec.decode_rows(parts[half:], d, self.shape.dtype)


def facts_of(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The fields of `Entries` but keys and values, out of all tensors of a layer."""
    return {name: own[name] for name in ("codes", "mass", "retention_score", "frame", "place")}
