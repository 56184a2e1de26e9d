"""The merged keys and values of one layer, and what each stands for."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..ann.nearest import Index

FACTS = {"mass": torch.float32, "worth": torch.float32, "frame": torch.int32, "place": torch.int32}


@dataclass(frozen=True, slots=True)
class Entries:
    """What one layer keeps, changed in place; all (b, n, c, ...). Mass 0 marks an empty slot.

    `keys` un-rotated and `values` have d elements, `codes` what the index makes of keys. `frame` is
    the latent frame of an entry's newest key, `place` its token in it. `worth` orders
    entries where some must give way, inf until it is known: the attention that one got of late, or
    how unlike newer keys it is.
    """

    keys: Tensor
    values: Tensor
    codes: Tensor
    mass: Tensor
    frame: Tensor
    place: Tensor
    worth: Tensor

    def behind(self, first: int) -> Entries:
        """Those from slot `first` on."""
        return Entries(*(getattr(self, one.name)[:, :, first:] for one in fields(self)))

    def before(self, stop: int) -> Entries:
        """Those in the first `stop` slots."""
        return Entries(*(getattr(self, one.name)[:, :, :stop] for one in fields(self)))


def empty_facts(size: tuple[int, ...], index: Index, device: torch.device) -> dict[str, Tensor]:
    """What is known of empty slots (b, n, c) beside keys and values, by name."""
    facts = {name: torch.zeros(size, dtype=dtype, device=device) for name, dtype in FACTS.items()}
    codes = torch.zeros(*size, index.code_width, dtype=index.code_dtype, device=device)
    return {**facts, "codes": codes}


def fact_bytes(index: Index) -> int:
    """Bytes of what is known of an entry beside its key and value."""
    facts = sum(dtype.itemsize for dtype in FACTS.values())
    return facts + index.code_width * index.code_dtype.itemsize
