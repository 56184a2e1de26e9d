"""Keep the latent frames that get the most attention, over all heads or for each head on its own.

Each commit measures its frames' attention: evenly spaced queries are compared with all keys, and
the share of attention that falls on each held frame is averaged over them (heavy hitters, arXiv
2306.14048, by frames; the observation window of SnapKV, arXiv 2404.14469). Denoising measures
nothing, so it only reads, and a replay keeps the same frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...layout import AttentionInputs, HistoryAttention
from ...rope import Rotation
from ...snapshot import Snapshot
from ...storage.dense import DENSE, DenseStore, KeysValues, Storage
from ...storage.shape import CacheShape
from ..kv_cache import KVCache
from ..policy import MostAttended
from ..prompt_keys import PromptKeys
from ..rotated_keys import CountedFromZero, RotatedKeys

SAMPLED_QUERIES = 32
"""Queries of a commit that are compared with all keys."""
QUERIES_AT_ONCE = 64
"""Their logits are in memory at once; those of more would take the most of a commit."""
UNMEASURED = 2.0
"""The score of a frame before its first measurement: above any share of attention, so it stays."""
TIE_BREAK = 1e-9
"""Score per frame number: of frames with equal scores the oldest is evicted, for any length."""


class HeavyHitterCache(KVCache):
    """A history that evicts the frame with the lowest attention score, the same in all heads."""

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
        self._groups = (shape.layers, shape.heads) if policy.per_head else (1, 1)
        self._scores = torch.zeros(*self._groups, 0, dtype=torch.float64)  # by group and kept slot
        self._shares: list[Tensor] = []  # of each layer, in the pass before a commit

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """Attention of finished frames; records how much of it falls on each held frame."""
        self._shares = []
        return replace(super().attention_of_commit(visible), record=self._record_shares)

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames after updating the scores of the held ones."""
        if self._shares and self.slots.kept_slots:
            self._update_scores(self._shares)
        self._shares = []
        super().commit(keys_values, prompt)

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined; for rehearsals."""
        super().assume(frames)
        size = *self._groups, len(self.slots.kept_slots)
        self._scores = torch.full(size, UNMEASURED, dtype=torch.float64)

    def clear(self) -> None:
        """Forget the history and its scores."""
        super().clear()
        self._scores = self._scores[..., :0]

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`."""
        chosen = frozenset(frames)
        slots = [slot for slot, frame in enumerate(self.slots.kept_slots) if frame in chosen]
        self._scores = self._scores[..., slots]
        super().retain(frames)

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        stored = super().snapshot()
        return Snapshot({**stored.tensors, "scores": self._scores.clone()}, stored.facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        super().restore(snapshot)
        self._scores = snapshot.tensors["scores"].clone()

    def _record_shares(self, layer: int, inputs: AttentionInputs) -> None:
        self._shares.append(attention_shares(inputs))

    def _update_scores(self, shares: Sequence[Tensor]) -> None:
        """Update the scores of kept frames by the `shares` (n, f) of attention in every layer."""
        seen = torch.stack([*shares])[..., : len(self.slots.kept_slots)]
        seen = torch.zeros(seen.shape) if seen.is_meta else seen.cpu()  # a rehearsal has no numbers
        if self._groups == (1, 1):
            seen = seen.mean((0, 1), keepdim=True)
        old, new = self._scores, seen.double()
        measured = self.memory * old + (1 - self.memory) * new
        self._scores = torch.where(old >= UNMEASURED, new, measured)

    def _victims(self, frames: Tensor) -> Tensor:
        """In each group, the slot with the lowest score; `frames` (..., slots) are held."""
        scores = self._scores + TIE_BREAK * frames
        return scores.masked_fill(frames < self.policy.sink_frames, torch.inf).argmin(-1)

    def _victim(self) -> int:
        return int(self._victims(torch.tensor(self.slots.kept_slots))[0, 0])

    def _keep(self, frame: int, layers: KeysValues) -> int:
        slot = super()._keep(frame, layers)
        new = torch.full((*self._groups, 1), UNMEASURED, dtype=torch.float64)
        self._scores = torch.cat([self._scores[..., :slot], new, self._scores[..., slot + 1 :]], -1)
        return slot


class PerHeadCache(HeavyHitterCache):
    """A history in which every head of every layer keeps its own frames; stored as computed."""

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
        self._layout = HeadLayout(shape)
        self.rotated_keys = RotatedKeys(self._store, self.slots, self._layout, shape, self.device)

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames` in every head, their content undefined."""
        super().assume(frames)
        numbers = torch.tensor(self.slots.kept_slots, dtype=torch.long)
        self._layout.kept_frames = numbers.expand(*self._groups, -1).contiguous()

    def clear(self) -> None:
        """Forget the history and its scores."""
        super().clear()
        self._layout.kept_frames = self._layout.kept_frames[..., :0]

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`; every head must hold them."""
        layout = self._layout
        mask = torch.isin(layout.kept_frames, torch.tensor([*frames]))
        count = int(mask[0, 0].sum())
        slots = mask.nonzero()[:, -1].view(*self._groups, count)
        self._store.select_heads(slots)
        layout.kept_frames, self._scores = (
            x.gather(-1, slots) for x in (layout.kept_frames, self._scores)
        )
        self.slots.kept_slots = layout.kept_frames[0, 0].tolist()
        self.rotated_keys.forget()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        stored = super().snapshot()
        return Snapshot(
            {**stored.tensors, "frames": self._layout.kept_frames.clone()}, stored.facts
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        super().restore(snapshot)
        self._layout.kept_frames = snapshot.tensors["frames"].clone()

    def _keep(self, frame: int, layers: KeysValues) -> int:
        """Put one latent frame into a slot of every head; return the slot of the first head."""
        layout = self._layout
        count = layout.kept_frames.shape[-1]
        slots = torch.full(self._groups, count)
        if count == self._store.kept_slots:
            slots = self._victims(layout.kept_frames)
        else:
            grown = torch.zeros(*self._groups, 1)
            layout.kept_frames = torch.cat([layout.kept_frames, grown.long()], -1)
            self._scores = torch.cat([self._scores, grown.double()], -1)
        at = slots.unsqueeze(-1)
        layout.kept_frames = layout.kept_frames.scatter(-1, at, frame)
        self._scores = self._scores.scatter(-1, at, UNMEASURED)
        for layer, (k, v) in enumerate(layers):
            self._store.write_heads(layer, slots[layer], k, v)
        self.slots.kept_slots = layout.kept_frames[0, 0].tolist()
        return int(slots[0, 0])


class HeadLayout(CountedFromZero):
    """Every head's own frames in slot order, each at its rank among the frames of its head.

    `held` (layers, n, slots) are the latent frames.
    """

    def __init__(self, shape: CacheShape) -> None:
        self.shape = shape
        self.kept_frames = torch.zeros(shape.layers, shape.heads, 0, dtype=torch.long)
        self._ranks: Rotation | None = None  # the rotation of every rank

    def frames(self, layer: int) -> list[int]:
        """The latent frame in each slot of a layer, -1 where its heads hold several."""
        by_head = self.kept_frames[layer]  # (n, slots)
        same = (by_head == by_head[:1]).all(0)
        return by_head[0].masked_fill(~same, -1).tolist()

    def rotation(self, layer: int, device: torch.device) -> Rotation:
        """The rotation (s, n, d) of a layer's keys."""
        count = self.kept_frames.shape[-1]
        if self._ranks is None:
            self._ranks = self.shape.rotation(range(count), device)
        ranks = self.kept_frames[layer].argsort(-1).argsort(-1).T  # (slots, n)
        grouped = count, self.shape.frame_tokens
        chosen = (
            x.unflatten(0, grouped)[ranks.to(x.device)].squeeze(3)  # (slots, n, t, d)
            for x in (self._ranks.cos, self._ranks.sin)
        )
        cos, sin = (x.transpose(1, 2).flatten(0, 1) for x in chosen)
        return Rotation(cos, sin)

    def key_frames(self, layer: int) -> Tensor | None:
        """The latent frame (1, n, t) of each key of a layer."""
        return self.kept_frames[layer].repeat_interleave(self.shape.frame_tokens, -1).unsqueeze(0)

    def forget(self) -> None:
        """Drop the rotations of ranks."""
        self._ranks = None


def attention_shares(inputs: AttentionInputs, samples: int = SAMPLED_QUERIES) -> Tensor:
    """The share (n, f) of about so many queries' attention that falls on each frame held."""
    count = inputs.q.shape[2]
    chosen = torch.arange(0, count, max(1, count // samples), device=inputs.q.device)
    pieces = [_summed_shares(inputs, some) for some in chosen.split(QUERIES_AT_ONCE)]
    total = pieces[0] if len(pieces) == 1 else torch.stack(pieces).sum(0)
    return total / (len(chosen) * inputs.q.shape[0])


def _summed_shares(inputs: AttentionInputs, queries: Tensor) -> Tensor:
    """The sum (n, f) over the batch and the `queries`, by number, of their shares by frame."""
    logits = inputs.q[:, :, queries] @ inputs.keys.transpose(2, 3) / inputs.q.shape[-1] ** 0.5
    weights = logits.float().softmax(-1)[..., : inputs.past]  # (b, n, queries, keys)
    grouped = inputs.past // inputs.frame_tokens, inputs.frame_tokens
    shares: Tensor = weights.unflatten(-1, grouped).sum(-1).sum((0, 2))
    return shares
