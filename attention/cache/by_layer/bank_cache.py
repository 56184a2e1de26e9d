"""A window with a memory bank: every layer selects its own frames beside the common window.

Positions count backwards from the next frame, by the frames' numbers. Duplicate frames share one
position.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....machine.uploads import upload
from ...rope import PositionTables, Rotation, position_tables, rotate
from ...snapshot import Snapshot
from ...storage.dense import DENSE, KeysValues, Storage
from ...storage.shape import CacheShape
from ..kv_cache import KVCache
from ..policy import MemoryBank
from ..prompt_keys import PromptKeys
from ..rotated_keys import CountedFromZero, RotatedKeys
from ..slots import FrameSlots
from .bank_store import BankStore
from .memory_bank import Arrangement, Bank


class BankLayout(CountedFromZero):
    """The frames of a layer's bank, then the window."""

    def __init__(self, slots: FrameSlots, bank: Bank, shape: CacheShape) -> None:
        self.slots, self.bank, self.shape = slots, bank, shape
        self._tables: tuple[torch.device, list[int], PositionTables] | None = None

    def frames(self, layer: int) -> list[int]:
        """The latent frames of `layer`; a frame of the bank may occur several times."""
        return [*self.bank.visible_frames(layer), *self.slots.kept_frames]

    def rotation(self, layer: int, device: torch.device) -> Rotation:
        """The rotation of a layer's bank and of the window."""
        frames, (times, tables) = self.frames(layer), self._look_up_tables(device)
        rows = upload(
            torch.tensor([times.index(frame) for frame in frames], dtype=torch.long), device
        )
        places = torch.arange(self.shape.frame_tokens, device=device)
        grid = len(frames), len(places)
        rotation = tables.look_up(rows[:, None].expand(grid), places.expand(grid))
        cos, sin = (x.flatten(0, 1)[:, None] for x in (rotation.cos, rotation.sin))
        return Rotation(cos, sin, self.shape.turn)

    def key_frames(self, layer: int) -> Tensor | None:
        """None: all heads of a layer hold the same frames."""

    def forget(self) -> None:
        """Drop the tables: the history or the device has changed."""
        self._tables = None

    def _look_up_tables(self, device: torch.device) -> tuple[list[int], PositionTables]:
        """The frames of all layers, and tables with a row for each of their positions."""
        if self._tables is None or self._tables[0] != device:
            layers = range(self.shape.layers)
            frames = sorted({frame for layer in layers for frame in self.frames(layer)})
            first, s = self.slots.next_frame - len(self.slots.kept_frames), self.shape
            times = [frame - first for frame in frames]
            tables = position_tables(times, s.rows, s.columns, s.head_dim, device)
            self._tables = device, frames, tables
        return self._tables[1], self._tables[2]


class BankCache(KVCache):
    """A history of a window, the same in all layers, and a bank that each layer fills for itself.

    Views that cut the history by age cut the window; they do not see the bank.
    """

    _store: BankStore

    def __init__(
        self,
        shape: CacheShape,
        policy: MemoryBank,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        cells = policy.extra_frames
        self._bank = Bank(shape.layers, cells, shape.heads, shape.head_dim)
        self._store = BankStore(self._store, shape, cells)
        layout = BankLayout(self.slots, self._bank, shape)
        self.rotated_keys = RotatedKeys(self._store, self.slots, layout, shape, self.device)
        self._every = policy.every
        self._chunks = 0  # committed since the bank was empty

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) of the window, in slot order."""
        keys, values = super().history(layer)
        bank = self._bank.visible_cells * self.shape.frame_tokens
        return keys[:, bank:], values[:, bank:]

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append a chunk of finished latent frames; the bank takes its candidate or reselects.

        Frames that are committed again leave the bank as it is.
        """
        if not self.slots.pending:
            self._update_bank(keys_values, prompt)
        super().commit(keys_values, prompt)

    def clear(self) -> None:
        """Forget the history and the bank; the next commit is of frame 0 again."""
        super().clear()
        self._clear_bank()

    def restart(self, frames: Sequence[int] = ()) -> None:
        """Forget the window; its frames will be committed again under the numbers they have.

        Meanwhile they see the bank as it was before the last selection.
        """
        self.generation += 1
        self.slots.recommit()
        self._arrange(self._bank.revert_selection())
        self.rotated_keys.forget()

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`, and empty the bank."""
        super().retain(frames)
        self._clear_bank()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        self._store.erase(self._bank.empty_cells)
        window, (tensors, bank) = super().snapshot(), self._bank.state()
        own = {f"bank.{name}": tensor for name, tensor in tensors.items()}
        facts = {"bank": bank, "chunks": self._chunks, "pending": list(self.slots.pending)}
        return Snapshot({**window.tensors, **own}, {**window.facts, **facts})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        super().restore(snapshot)
        self._bank.restore(snapshot.part("bank").tensors, snapshot.facts["bank"])
        self._store.visible_cells = self._bank.visible_cells
        self._chunks, self.slots.pending = snapshot.facts["chunks"], [*snapshot.facts["pending"]]

    def _update_bank(self, keys_values: KeysValues, prompt: PromptKeys | None) -> None:
        if prompt is None:
            raise ValueError("a memory bank selects frames by the prompt's keys; got no prompt")
        if self._chunks % self._every:
            self._arrange(self._bank.reselect(prompt))
        else:
            tokens = self.shape.frame_tokens
            candidate = [(k[:, :tokens], v[:, :tokens]) for k, v in keys_values]
            means = self._rotated_means([k[prompt.row, None] for k, _ in candidate])
            self._arrange(self._bank.add_candidate(self.committed, means, prompt))
            for layer, (k, v) in enumerate(candidate):
                self._store.put(layer, self._bank.newest_cell(layer), k, v)
        self._chunks += 1

    def _rotated_means(self, keys: Sequence[Tensor]) -> Tensor:
        """The mean (layers, n, d) of the next frame's keys (1, s, n, d), rotated to its place."""
        rotation = self.shape.rotation([self.committed], keys[0].device)
        means = torch.stack([rotate(k, rotation).float().mean((0, 1)) for k in keys])
        return torch.zeros(means.shape) if means.is_meta else means.cpu()  # as in a rehearsal

    def _arrange(self, arrangements: Sequence[Arrangement]) -> None:
        for layer, cells in enumerate(arrangements):
            self._store.arrange_cells(layer, cells)
        self._store.visible_cells = self._bank.visible_cells

    def _clear_bank(self) -> None:
        self._bank.clear()
        self._store.visible_cells = self._chunks = 0
        self.slots.pending.clear()
        self.rotated_keys.forget()
