"""A window and a memory bank: which frames lie beside the window, every layer finds for itself.

Places are counted back from the frame that comes next, among all that a layer sees, so that a frame
has one place however often it is there; the window's are then the same in all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..rope import Rotation, rotate, rotation
from ..snapshot import Snapshot
from ..storage.dense import DENSE, Storage
from ..storage.shape import CacheShape
from .bank_store import BankStore
from .kv_cache import KeysValues, KVCache
from .memory_bank import Arrangement, Bank
from .policy import MemoryBank
from .prompt_keys import PromptKeys


class BankCache(KVCache):
    """A history whose window is that of every layer, and whose bank is each layer's own.

    What is cut out of the history by age is cut out of the window; the bank is then not seen.
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
        cells = policy.beside_frames
        self._store = BankStore(self._store, shape, cells)
        self._bank = Bank(shape.layers, cells, shape.heads, shape.head_dim)
        self._every = policy.every
        self._chunks = 0  # committed since there is a bank
        self._again: list[int] = []  # frames that are about to be committed again
        self._table: tuple[range, Rotation] | None = None  # of all places that frames may have

    def frames_in_layout(self, layer: int) -> list[int]:
        """Those of the layer's bank, then the window."""
        return [*self._bank.seen(layer), *self.held]

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) of the window, in slot order."""
        keys, values = super().history(layer)
        beside = self._bank.shown * self.shape.frame_tokens
        return keys[:, beside:], values[:, beside:]

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames, a chunk; the bank takes its candidate or chooses anew.

        Frames that are committed again change nothing of it.
        """
        if not self._again:
            self._remember(keys_values, prompt)
        super().commit(keys_values, prompt)

    def clear(self) -> None:
        """Forget the history and the bank; the next commit is of frame 0 again."""
        super().clear()
        self._forget_bank()

    def restart(self) -> None:
        """The frames of the window will be committed again, under the numbers that they have, and
        see the bank meanwhile, the way it is while no prompt was asked yet.
        """
        self.forgotten += 1
        self._again = sorted({*self._again, *self.held})
        self._kept.clear()
        self._recent.clear()
        self._arrange(self._bank.let_the_front_stay())
        self._forget_rotated()

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those of the held `frames`, and nothing in the bank."""
        super().retain(frames)
        self._forget_bank()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        window, (tensors, bank) = super().snapshot(), self._bank.saved()
        own = {f"bank.{name}": tensor for name, tensor in tensors.items()}
        facts = {"bank": bank, "chunks": self._chunks, "again": list(self._again)}
        return Snapshot({**window.tensors, **own}, {**window.facts, **facts})

    def restore(self, snapshot: Snapshot) -> None:
        """Go on, bit for bit, from what `snapshot` gave in a cache of the same settings."""
        super().restore(snapshot)
        self._bank.restore(snapshot.part("bank").tensors, snapshot.facts["bank"])
        self._store.shown = self._bank.shown
        self._chunks, self._again = snapshot.facts["chunks"], list(snapshot.facts["again"])

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""
        super().move(device)
        self._table = None

    def _remember(self, keys_values: KeysValues, prompt: PromptKeys | None) -> None:
        if prompt is None:
            raise ValueError("a memory bank asks what frames a prompt is like; none was given")
        if self._chunks % self._every:
            self._arrange(self._bank.choose(prompt))
        else:
            tokens = self.shape.frame_tokens
            candidate = [(k[:, :tokens], v[:, :tokens]) for k, v in keys_values]
            turned = self._turned_means([k[prompt.row, None] for k, _ in candidate])
            self._arrange(self._bank.take(self.committed, turned, prompt))
            for layer, (k, v) in enumerate(candidate):
                self._store.put(layer, self._bank.newest(layer), k, v)
        self._chunks += 1

    def _turned_means(self, keys: Sequence[Tensor]) -> Tensor:
        """The mean (layers, n, d) of the next frame's keys (1, s, n, d), turned to its place."""
        s = self.shape
        by = rotation([self.committed], s.rows, s.columns, s.head_dim, keys[0].device)
        means = torch.stack([rotate(k, by).float().mean((0, 1)) for k in keys])
        return torch.zeros(means.shape) if means.is_meta else means.cpu()  # as in a rehearsal

    def _arrange(self, arranged: Sequence[Arrangement]) -> None:
        for layer, cells in enumerate(arranged):
            self._store.arrange_cells(layer, cells)
        self._store.shown = self._bank.shown

    def _forget_bank(self) -> None:
        self._bank.forget()
        self._store.shown = self._chunks = 0
        self._again.clear()
        self._forget_rotated()

    def _number(self) -> int:
        return self._again.pop(0) if self._again else super()._number()

    def _turn(self, layer: int) -> Rotation:
        """Of a layer's bank, at places of its own, and of the window."""
        laid, next_frame = self.frames_in_layout(layer), (*self._again, self.committed)[0]
        in_time = sorted({*laid, *self._again, next_frame})
        shift = len(self.held) - in_time.index(next_frame)
        return self._turned_at([in_time.index(frame) + shift for frame in laid])

    def _turned_at(self, places: Sequence[int]) -> Rotation:
        """Looked up: all layers' places are among a few."""
        shown, ahead = self._bank.shown, len(self._again)
        span = range(-shown, len(self.held) + (shown + ahead if ahead else 0))
        if self._table is None or self._table[0] != span:
            self._table = span, self.rotation(span)
        whole, tokens = self._table[1], self.shape.frame_tokens
        chosen = torch.tensor([one + shown for one in places], dtype=torch.long, device=self.device)
        cos, sin = (
            x.unflatten(0, (-1, tokens))[chosen].flatten(0, 1) for x in (whole.cos, whole.sin)
        )
        return Rotation(cos, sin)
