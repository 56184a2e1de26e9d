"""The merged keys and values of one layer, and what each entry stands for."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..ann.nearest import Index


@dataclass(frozen=True, slots=True)
class EntryLayout:
    """`slots` entries a head, and the `index` that codes their keys.

    `heads_agree`: all heads and batch rows of a layer keep the same tokens.
    """

    slots: int
    index: Index
    heads_agree: bool = False


FACTS = {
    "mass": torch.float32,
    "retention_score": torch.float32,
    "frame": torch.int32,
    "place": torch.int32,
}


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of one layer, changed in place; all tensors are (b, n, c, ...).

    Where all heads and rows keep the same tokens, tensors other than keys, values and codes are
    (1, 1, c).

    Un-rotated `keys` and `values` have d elements; `codes` are the index's codes of the keys.
    `frame` is the latent frame of an entry's newest key, `place` its token within that frame. An
    entry of `mass` 0 is an empty slot. Entries with the lowest `retention_score` are evicted first:
    the recent attention of an entry, or its difference from newer keys; inf until known.
    """

    keys: Tensor
    values: Tensor
    codes: Tensor
    mass: Tensor
    frame: Tensor
    place: Tensor
    retention_score: Tensor

    def of_every_head(self) -> Entries:
        """The same entries with all tensors (b, n, c, ...), as views that must not be changed."""
        size = self.keys.shape[:3]
        return replace(self, **{name: getattr(self, name).expand(size) for name in FACTS})

    def behind(self, first: int) -> Entries:
        """Views of the entries from slot `first` on."""
        return Entries(*(getattr(self, field.name)[:, :, first:] for field in fields(self)))

    def before(self, stop: int) -> Entries:
        """Views of the entries in the first `stop` slots."""
        return Entries(*(getattr(self, field.name)[:, :, :stop] for field in fields(self)))


def empty_facts(
    batch: int, heads: int, layout: EntryLayout, device: torch.device
) -> dict[str, Tensor]:
    """All fields but keys and values, by name, for empty slots of `batch` rows and `heads`."""
    index, size = layout.index, (batch, heads, layout.slots)
    own = (1, 1, layout.slots) if layout.heads_agree else size
    facts = {name: torch.zeros(own, dtype=dtype, device=device) for name, dtype in FACTS.items()}
    codes = torch.zeros(*size, index.code_width, dtype=index.code_dtype, device=device)
    return {**facts, "codes": codes}


def fact_bytes(batch: int, heads: int, layout: EntryLayout) -> int:
    """Exact bytes of what `empty_facts` returns."""
    index, vectors = layout.index, batch * heads
    facts = sum(dtype.itemsize for dtype in FACTS.values())
    codes = vectors * index.code_width * index.code_dtype.itemsize
    return layout.slots * (facts * (1 if layout.heads_agree else vectors) + codes)
