"""A store whose first slots are the cells of a memory bank.

The cache sees only the slots of its window, counted from behind the cells. Reading returns the
visible cells, which are the last ones, in front of the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...storage.dense import Store
from ...storage.shape import CacheShape


class BankStore:
    """`whole` stores cells and window; the last `visible_cells` of the `cells` are read."""

    def __init__(self, whole: Store, shape: CacheShape, cells: int) -> None:
        self.whole, self.shape, self.cells = whole, shape, cells
        self.visible_cells = 0
        self.kept_slots, self.recent = whole.kept_slots - cells, whole.recent

    @property
    def holds_rotated(self) -> bool:
        """Whether every layer has rotated keys of its own, which last until the next commit."""
        return self.whole.holds_rotated

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device."""
        return self.whole.bytes

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of tensors in main memory or files."""
        return self.whole.offloaded_bytes

    def put(self, layer: int, cell: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into a cell."""
        self.whole.write(layer, cell, k, v)

    def arrange_cells(self, layer: int, cells: Sequence[int]) -> None:
        """Give cell i of a layer the content of `cells[i]`."""
        self.whole.arrange(layer, cells)

    def erase(self, cells: range) -> None:
        """Put zeros into cells that hold no frame, and may be memory that nobody wrote."""
        for layer in range(self.shape.layers):
            for cell in cells:
                k, v = self.whole.frame(layer, cell)
                self.put(layer, cell, torch.zeros_like(k), torch.zeros_like(v))

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put one frame's k and v (b, s, n, d) into a slot of the window."""
        self.whole.write(layer, self.cells + slot, k, v)

    def frame(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """One frame's k and v (b, s, n, d) in a slot of the window."""
        return self.whole.frame(layer, self.cells + slot)

    def read(self, layer: int, kept_slots: int, recent: int) -> tuple[Tensor, Tensor]:
        """Keys (b, s, n, d) of visible cells and of the first window slots; values with room."""
        keys, values = self.whole.read(layer, self.cells + kept_slots, recent)
        return keys[:, self._hidden :], values[:, self._hidden :]

    def select(self, kept_slots: Sequence[int], recent: Sequence[int]) -> None:
        """Move those slots of the window to its front; the cells stay."""
        behind = (self.cells + slot for slot in kept_slots)
        self.whole.select([*range(self.cells), *behind], recent)

    def arrange(self, layer: int, slots: Sequence[int]) -> None:
        """Give slot i of the window the content of `slots[i]`; the cells stay."""
        behind = (self.cells + slot for slot in slots)
        self.whole.arrange(layer, [*range(self.cells), *behind])

    def rotated(self, layer: int) -> Tensor:
        """Memory for the rotated keys of what `read` returns, with room behind."""
        return self.whole.rotated(layer)[:, self._hidden :]

    def state(self, kept_slots: int, recent: int) -> dict[str, Tensor]:
        """The content of all cells and of those window slots, on the CPU."""
        return self.whole.state(self.cells + kept_slots, recent)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the content that `state` returned."""
        self.whole.restore(tensors)

    def grow(self, kept_slots: int) -> None:
        """Have at least `kept_slots` slots in the window."""
        self.whole.grow(self.cells + kept_slots)
        self.kept_slots = self.whole.kept_slots - self.cells

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        self.whole.move(device)

    @property
    def _hidden(self) -> int:
        """Tokens of the cells in front that are not visible."""
        return (self.cells - self.visible_cells) * self.shape.frame_tokens
