"""A window with a memory bank: every layer selects its own frames beside the common window.

Positions count backwards from the next frame. Duplicate frames share one position, so window
positions agree across layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..rope import Rotation, rotate
from ..snapshot import Snapshot
from ..storage.dense import DENSE, KeysValues, Storage
from ..storage.shape import CacheShape
from .bank_store import BankStore
from .kv_cache import KVCache
from .memory_bank import Arrangement, Bank
from .policy import MemoryBank
from .prompt_keys import PromptKeys
from .rotated_keys import RotatedKeys
from .slots import FrameSlots


class BankLayout:
    """The frames of a layer's bank, then the window."""

    def __init__(self, slots: FrameSlots, bank: Bank, shape: CacheShape) -> None:
        self.slots, self.bank, self.shape = slots, bank, shape
        self._table: tuple[tuple[range, torch.device], Rotation] | None = None

    def frames(self, layer: int) -> list[int]:
        """The latent frames of `layer`; a frame of the bank may occur several times."""
        return [*self.bank.visible_frames(layer), *self.slots.kept_frames]

    def rotation(self, layer: int, device: torch.device) -> Rotation:
        """The rotation of a layer's bank at its own positions, and of the window."""
        slots, frames = self.slots, self.frames(layer)
        in_time = sorted({*frames, *slots.pending, slots.next_frame})
        shift = len(slots.kept_frames) - in_time.index(slots.next_frame)
        return self._look_up([in_time.index(frame) + shift for frame in frames], device)

    def key_frames(self, layer: int) -> Tensor | None:
        """None: all heads of a layer hold the same frames."""

    def forget(self) -> None:
        """Keep the table: it depends only on the number of frames and the device."""

    def _look_up(self, positions: Sequence[int], device: torch.device) -> Rotation:
        """The rotation at `positions`, from a table of all positions that any layer can have."""
        visible, ahead = self.bank.visible_cells, len(self.slots.pending)
        span = range(-visible, len(self.slots.kept_frames) + (visible + ahead if ahead else 0))
        if self._table is None or self._table[0] != (span, device):
            self._table = (span, device), self.shape.rotation(span, device)
        table, tokens = self._table[1], self.shape.frame_tokens
        rows = torch.tensor([p + visible for p in positions], dtype=torch.long, device=device)
        cos, sin = (
            x.unflatten(0, (-1, tokens))[rows].flatten(0, 1) for x in (table.cos, table.sin)
        )
        return Rotation(cos, sin)


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

    def restart(self) -> None:
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
