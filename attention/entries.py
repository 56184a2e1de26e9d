"""The merged keys and values of one layer, and what each stands for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .ann.nearest import Index
from .cache_shape import CacheShape

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

    @property
    def owned(self) -> dict[str, Tensor]:
        """All but the values, which lie in front of a larger tensor."""
        return {
            "keys": self.keys, "codes": self.codes, "mass": self.mass, "frame": self.frame,
            "place": self.place, "worth": self.worth,
        }  # fmt: skip


def empty_entries(shape: CacheShape, values: Tensor, index: Index) -> Entries:
    """Empty slots, one for each of `values` (b, n, c, d)."""
    size, device = values.shape[:3], values.device
    facts = {name: torch.zeros(size, dtype=dtype, device=device) for name, dtype in FACTS.items()}
    codes = torch.zeros(*size, index.code_width, dtype=index.code_dtype, device=device)
    keys = torch.zeros(*size, shape.head_dim, dtype=shape.dtype, device=device)
    return Entries(keys=keys, values=values, codes=codes, **facts)


def entry_bytes(shape: CacheShape, index: Index) -> int:
    """Bytes of an entry without its value."""
    facts = sum(dtype.itemsize for dtype in FACTS.values())
    codes = index.code_width * index.code_dtype.itemsize
    return shape.head_dim * shape.dtype.itemsize + codes + facts


def grid(slots: Tensor) -> tuple[Tensor, Tensor]:
    """Batch and head numbers that go with slots (b, n, s)."""
    b, n = (torch.arange(size, device=slots.device) for size in slots.shape[:2])
    return b.view(-1, 1, 1), n.view(1, -1, 1)
