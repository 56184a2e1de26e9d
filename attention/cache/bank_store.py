"""A store whose first slots are a memory bank's cells, of which the last are seen with the window.

To a cache it is the store of its window: slots are counted from behind the cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..storage.dense import Store
from ..storage.shape import CacheShape


class BankStore:
    """`whole` stores all; `shown` is how many of the `cells` are read, in front of the window."""

    def __init__(self, whole: Store, shape: CacheShape, cells: int) -> None:
        self.whole, self.shape, self.cells = whole, shape, cells
        self.shown = 0
        self.kept, self.recent = whole.kept - cells, whole.recent

    @property
    def holds_rotated(self) -> bool:
        """As of the whole."""
        return self.whole.holds_rotated

    @property
    def bytes(self) -> int:
        """Of the whole."""
        return self.whole.bytes

    @property
    def offloaded_bytes(self) -> int:
        """Of the whole."""
        return self.whole.offloaded_bytes

    def put(self, layer: int, cell: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into a cell."""
        self.whole.write(layer, cell, k, v)

    def arrange_cells(self, layer: int, cells: Sequence[int]) -> None:
        """Give every cell of a layer the content of the one that is named in its place."""
        self.whole.arrange(layer, cells)

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into a slot of the window."""
        self.whole.write(layer, self.cells + slot, k, v)

    def frame(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """One frame's k and v (b, s, n, d) of the window."""
        return self.whole.frame(layer, self.cells + slot)

    def read(self, layer: int, kept: int, recent: int) -> tuple[Tensor, Tensor]:
        """Keys (b, s, n, d) of the cells that are shown and of the first slots of the window, and
        their values with room behind.
        """
        keys, values = self.whole.read(layer, self.cells + kept, recent)
        return keys[:, self._hidden :], values[:, self._hidden :]

    def select(self, kept: Sequence[int], recent: Sequence[int]) -> None:
        """Move those slots of the window to its front; the cells stay."""
        behind = (self.cells + slot for slot in kept)
        self.whole.select([*range(self.cells), *behind], recent)

    def arrange(self, layer: int, slots: Sequence[int]) -> None:
        """Put into the first slots of the window what lies in `slots`; the cells stay."""
        behind = (self.cells + slot for slot in slots)
        self.whole.arrange(layer, [*range(self.cells), *behind])

    def rotated(self, layer: int) -> Tensor:
        """Where the rotated keys of what is read go, with room behind."""
        return self.whole.rotated(layer)[:, self._hidden :]

    def saved(self, kept: int, recent: int) -> dict[str, Tensor]:
        """The content of all cells and of those slots."""
        return self.whole.saved(self.cells + kept, recent)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `saved` gave."""
        self.whole.restore(tensors)

    def grow(self, kept: int) -> None:
        """Have at least `kept` slots in the window."""
        self.whole.grow(self.cells + kept)
        self.kept = self.whole.kept - self.cells

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        self.whole.move(device)

    @property
    def _hidden(self) -> int:
        """Tokens of the cells in front that are not seen."""
        return (self.cells - self.shown) * self.shape.frame_tokens
