"""The merged keys and values of one layer, and what each entry stands for."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..ann.nearest import Index

FACTS = {
    "mass": torch.float32,
    "retention_score": torch.float32,
    "frame": torch.int32,
    "place": torch.int32,
}


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of one layer, changed in place; all tensors are (b, n, c, ...).

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

    def behind(self, first: int) -> Entries:
        """Views of the entries from slot `first` on."""
        return Entries(*(getattr(self, field.name)[:, :, first:] for field in fields(self)))

    def before(self, stop: int) -> Entries:
        """Views of the entries in the first `stop` slots."""
        return Entries(*(getattr(self, field.name)[:, :, :stop] for field in fields(self)))


def empty_facts(size: tuple[int, ...], index: Index, device: torch.device) -> dict[str, Tensor]:
    """All fields but keys and values, by name, for empty slots of `size` (b, n, c)."""
    facts = {name: torch.zeros(size, dtype=dtype, device=device) for name, dtype in FACTS.items()}
    codes = torch.zeros(*size, index.code_width, dtype=index.code_dtype, device=device)
    return {**facts, "codes": codes}


def fact_bytes(index: Index) -> int:
    """Bytes of an entry besides its key and value."""
    facts = sum(dtype.itemsize for dtype in FACTS.values())
    return facts + index.code_width * index.code_dtype.itemsize
