"""Bucket codes of a history's keys, each computed once, when its latent frame is committed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..ann.buckets import BucketIndex, Buckets
from ..history import HistoryCache
from ..snapshot import Snapshot
from ..temp_cache.cache import MergedCache
from ..token_numbers import token_numbers
from .self_attention import Codes, TokenNumbers


def entry_codes(cache: MergedCache) -> Codes | None:
    """The buckets by which a TempCache searches similar keys, None if it uses no buckets."""
    if not (cache.policy.merges and isinstance(cache.index, BucketIndex)):
        return None
    return lambda layer, frames: cache.store.codes(layer)[..., 0]


def entry_numbers(cache: HistoryCache) -> TokenNumbers | None:
    """The tokens of a TempCache whose heads agree; None for other caches."""
    if not isinstance(cache, MergedCache) or cache.policy.merges:
        return None
    return cache.rotated_keys.token_numbers


class SlotCodes:
    """Codes of the keys of a cache whose slots hold whole latent frames."""

    def __init__(self, cache: HistoryCache, buckets: Buckets) -> None:
        self.cache, self.buckets = cache, buckets
        self._generation = cache.generation  # of the cache when its keys were coded
        self._codes: dict[int, Tensor] = {}  # by layer, (b, n, t) in slot order
        self._frames: dict[int, list[int]] = {}  # by layer, the latent frame of each slot

    def of_layer(self, layer: int, frames: Sequence[int]) -> Tensor:
        """The codes (b, n, t) int16 of latent `frames` of a layer's history."""
        codes, in_slots = self._codes[layer], self._frames[layer]
        if list(frames) == in_slots:
            return codes
        slots = [in_slots.index(frame) for frame in frames]
        at = upload(torch.tensor(slots, dtype=torch.long), codes.device)  # there may be none
        by_frame: Tensor = codes.unflatten(2, (len(in_slots), self.cache.shape.frame_tokens))
        return by_frame[:, :, at].flatten(2)

    def update(self) -> None:
        """Code the keys committed last.

        Call this after each commit, since buckets learn from it. Buckets are reset whenever the
        cache has forgotten its history.
        """
        if self._generation != self.cache.generation:
            self._generation = self.cache.generation
            self._frames.clear()
            self.buckets.restore({})
        for layer in range(self.cache.shape.layers):
            self._update(layer)

    def snapshot(self) -> Snapshot:
        """The codes, their latent frames, and the state of the buckets."""
        codes = {f"codes.{layer}": t.to("cpu", copy=True) for layer, t in self._codes.items()}
        learnt = {f"buckets.{k}": t.to("cpu", copy=True) for k, t in self.buckets.state().items()}
        frames = {str(layer): list(slot_frames) for layer, slot_frames in self._frames.items()}
        return Snapshot({**codes, **learnt}, {"frames": frames})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from what `snapshot` returned."""
        device = self.cache.device
        parts: dict[str, dict[str, Tensor]] = {"codes": {}, "buckets": {}}
        for name, tensor in snapshot.tensors.items():
            kind, key = name.split(".", 1)
            parts[kind][key] = tensor.to(device)
        self._codes = {int(layer): codes for layer, codes in parts["codes"].items()}
        self._frames = {
            int(k): list(slot_frames) for k, slot_frames in snapshot.facts["frames"].items()
        }
        self.buckets.restore(parts["buckets"])
        self._generation = self.cache.generation

    def _update(self, layer: int) -> None:
        slot_frames, tokens = self.cache.kept_frames, self.cache.shape.frame_tokens
        known = self._frames.get(layer, [])
        new = [slot for slot, frame in enumerate(slot_frames) if known[slot : slot + 1] != [frame]]
        if new:
            keys = self.cache.history(layer)[0].transpose(1, 2)  # (b, n, t, d)
            codes = torch.zeros(keys.shape[:3], dtype=torch.int16, device=keys.device)
            if layer in self._codes:
                before = self._codes[layer][:, :, : codes.shape[2]]
                codes[:, :, : before.shape[2]] = before
            at = token_numbers(new, tokens, keys.device)
            self.buckets.learn(layer, keys[:, :, at])
            codes[:, :, at] = self.buckets.assign(layer, keys[:, :, at])
            self._codes[layer], self._frames[layer] = codes, list(slot_frames)
