"""Keep the latent frames that are attended to most, over all heads or for each head on its own.

What a frame is worth is measured while a finished chunk is committed: some of its queries, evenly
spread, are compared with all keys, and the attention that falls on a frame is averaged over them
(heavy hitters, arXiv 2306.14048, by frames; the observation window of SnapKV, arXiv 2404.14469).
Commits alone are measured, so denoising only reads, and a replay keeps the same frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..rope import Rotation, rotate
from ..snapshot import Snapshot
from ..storage.dense import DENSE, DenseStore, Storage
from ..storage.shape import CacheShape
from .kv_cache import CachedAttention, KeysValues, KVCache
from .policy import MostAttended
from .prompt_keys import PromptKeys

QUERIES = 32  # of a commit, compared with all keys
NOT_MEASURED = 2.0  # more than any share of attention: such frames stay, the oldest of them least
OF_AGE = 1e-9  # orders frames of equal worth, for rollouts of any length


class AttendedCache(KVCache):
    """A history whose frames give way by worth, the same frames in all heads."""

    def __init__(
        self,
        shape: CacheShape,
        policy: MostAttended,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        self.memory = policy.memory
        self._lanes = (shape.layers, shape.heads) if policy.per_head else (1, 1)
        self._worth = torch.zeros(*self._lanes, 0, dtype=torch.float64)  # of kept frames, by slot
        self._watching: _Watching | None = None

    def attention_of_commit(self, visible: Sequence[int]) -> CachedAttention:
        """What finished frames look at as they are committed; it is measured."""
        held = len(self.held)
        positions = range(held, held + len(visible))
        self._watching = _Watching(self, visible, slice(None), positions)
        return self._watching

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames, after the measure of what their queries looked at."""
        if self._watching is not None and len(self._kept):
            self._measure(self._watching.shares)
        self._watching = None
        super().commit(keys_values, prompt)

    def clear(self) -> None:
        """Forget the history, and what it was worth."""
        super().clear()
        self._worth = self._worth[..., :0]

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those of the held `frames`."""
        slots = [slot for slot, frame in enumerate(self._kept) if frame in frames]
        self._worth = self._worth[..., slots]
        super().retain(frames)

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        stored = super().snapshot()
        return Snapshot({**stored.tensors, "worth": self._worth.clone()}, stored.facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on, bit for bit, from what `snapshot` gave in a cache of the same settings."""
        super().restore(snapshot)
        self._worth = snapshot.tensors["worth"].clone()

    def _measure(self, shares: Sequence[Tensor]) -> None:
        """Update the kept frames' worth by the `shares` (n, f) of attention in every layer."""
        seen = torch.stack([*shares])[..., : len(self._kept)]
        seen = torch.zeros(seen.shape) if seen.is_meta else seen.cpu()  # a rehearsal has no numbers
        if self._lanes == (1, 1):
            seen = seen.mean((0, 1), keepdim=True)
        old, new = self._worth, seen.double()
        measured = self.memory * old + (1 - self.memory) * new
        self._worth = torch.where(old >= NOT_MEASURED, new, measured)

    def _victims(self, frames: Tensor) -> Tensor:
        """In each lane, the slot of the frame of least worth; `frames` (..., slots) are held."""
        worth = self._worth + OF_AGE * frames
        return worth.masked_fill(frames < self.policy.sink_frames, torch.inf).argmin(-1)

    def _victim(self) -> int:
        return int(self._victims(torch.tensor(self._kept))[0, 0])

    def _taken(self, slot: int) -> None:
        """A frame that was not measured yet lies in `slot` now."""
        fresh = torch.full((*self._lanes, 1), NOT_MEASURED, dtype=torch.float64)
        self._worth = torch.cat([self._worth[..., :slot], fresh, self._worth[..., slot + 1 :]], -1)


class HeadCache(AttendedCache):
    """The same, with frames of its own for every head of every layer; stored as computed."""

    _store: DenseStore

    def __init__(
        self,
        shape: CacheShape,
        policy: MostAttended,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        self._frames = torch.zeros(*self._lanes, 0, dtype=torch.long)  # held, by slot
        self._turns: Rotation | None = None  # of every position in the window

    def frames_in_layout(self, layer: int) -> list[int]:
        """The latent frame in each slot of a layer, -1 where its heads hold several."""
        frames = self._frames[layer]  # (n, slots)
        same = (frames == frames[:1]).all(0)
        return frames[0].masked_fill(~same, -1).tolist()

    def clear(self) -> None:
        """Forget the history, and what it was worth."""
        super().clear()
        self._frames = self._frames[..., :0]

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those of the held `frames`, which every head must hold."""
        wanted = torch.isin(self._frames, torch.tensor([*frames]))
        count = int(wanted[0, 0].sum())
        slots = wanted.nonzero()[:, -1].view(*self._lanes, count)
        self._store.select_of_heads(slots)
        self._frames, self._worth = (x.gather(-1, slots) for x in (self._frames, self._worth))
        self._kept = self._frames[0, 0].tolist()
        self._forget_rotated()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        stored = super().snapshot()
        return Snapshot({**stored.tensors, "frames": self._frames.clone()}, stored.facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on, bit for bit, from what `snapshot` gave in a cache of the same settings."""
        super().restore(snapshot)
        self._frames = snapshot.tensors["frames"].clone()

    def _keep(self, frame: int, layers: KeysValues) -> None:
        count = self._frames.shape[-1]
        slots = torch.full(self._lanes, count)
        if count == self._store.kept:
            slots = self._victims(self._frames)
        else:
            grown = torch.zeros(*self._lanes, 1)
            self._frames = torch.cat([self._frames, grown.long()], -1)
            self._worth = torch.cat([self._worth, grown.double()], -1)
        at = slots.unsqueeze(-1)
        self._frames = self._frames.scatter(-1, at, frame)
        self._worth = self._worth.scatter(-1, at, NOT_MEASURED)
        for layer, (k, v) in enumerate(layers):
            self._store.write_of_heads(layer, slots[layer], k, v)
        self._kept = self._frames[0, 0].tolist()

    def _turn(self, layer: int) -> Rotation:
        """Each head's frames at their ranks among the frames it holds."""
        count = self._frames.shape[-1]
        if self._turns is None:
            self._turns = self.rotation(range(count))
        ranks = self._frames[layer].argsort(-1).argsort(-1).T  # (slots, n)
        grouped = count, self.shape.frame_tokens
        chosen = (
            x.unflatten(0, grouped)[ranks.to(x.device)].squeeze(3)  # (slots, n, t, d)
            for x in (self._turns.cos, self._turns.sin)
        )
        cos, sin = (x.transpose(1, 2).flatten(0, 1) for x in chosen)
        return Rotation(cos, sin)

    def _forget_rotated(self) -> None:
        super()._forget_rotated()
        self._turns = None


class _Watching(CachedAttention):
    """The attention of a commit; `shares` (n, f) of all layers are what fell on each frame held."""

    def __init__(
        self, cache: KVCache, visible: Sequence[int], rows: slice, positions: Sequence[int]
    ) -> None:
        super().__init__(cache, visible, rows, positions)
        self.shares: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d), and measure."""
        out = super().__call__(layer, q, k, v)
        keys, _ = self.cache.workspace(layer, self.rows)
        stop = self._past_tokens + k.shape[1]
        chosen = torch.arange(0, q.shape[1], max(1, q.shape[1] // QUERIES), device=q.device)
        queries = rotate(q, self._now)[:, chosen].transpose(1, 2)
        logits = queries @ keys[:, :stop].permute(0, 2, 3, 1) / q.shape[-1] ** 0.5
        weights = logits.float().softmax(-1)[..., : self._past_tokens]  # (b, n, queries, keys)
        grouped = len(self.cache.held), self.cache.shape.frame_tokens
        of_frames = weights.unflatten(-1, grouped).sum(-1)
        self.shares.append(of_frames.mean((0, 2)))
        return out
