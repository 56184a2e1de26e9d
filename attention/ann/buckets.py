"""Buckets: keys and queries that point in similar directions get the same number.

A bucket index codes a key by its bucket and searches only the buckets it probes. Sparse attention
sorts keys by bucket, and keeps the prompt tokens that share a bucket with a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from .nearest import CodedKeys, Nearest, nearest_by, no_match

GATHERED = 2**20
"""Elements of candidates gathered at once in a head, at least those of one new key."""


class Buckets(Protocol):
    """A partition of the directions of a head's keys and queries."""

    count: int
    """Number of buckets of a head."""

    def learn(self, layer: int, keys: Tensor) -> None:
        """Learn from keys (b, n, s, d) that are about to be cached; existing codes stay valid."""

    def assign(self, layer: int, vectors: Tensor) -> Tensor:
        """The bucket (b, n, s) int16 of each key or query (b, n, s, d)."""

    def probes(self, layer: int, vectors: Tensor, count: int) -> Tensor:
        """The `count` likeliest buckets (b, n, s, count) int16 of near keys, own bucket first."""

    def state(self) -> dict[str, Tensor]:
        """The learnt state, by name."""

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Replace the state by what `state` returned; an empty mapping resets it."""


BucketedNearest = Callable[[Tensor, Tensor, CodedKeys], Nearest]
"""The signature of `bucketed_nearest`."""


class BucketIndex:
    """Searches the nearest key in the probed buckets only."""

    code_width = 1
    code_dtype = torch.int16

    def __init__(self, buckets: Buckets, probes: int, match: BucketedNearest | None = None) -> None:
        self.buckets, self.probes, self.match = buckets, probes, match or bucketed_nearest

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """The bucket of each key (b, n, s, d), as (b, n, s, 1)."""
        self.buckets.learn(layer, keys)
        return self.buckets.assign(layer, keys).unsqueeze(-1)

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: CodedKeys) -> Nearest:
        """The nearest key in the probed buckets; no match where they are empty."""
        probes = self.buckets.probes(layer, new, self.probes)
        return self.match(new, probes, cached)

    def state(self) -> dict[str, Tensor]:
        """The state of the buckets."""
        return self.buckets.state()

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Replace the state by what `state` returned."""
        self.buckets.restore(learnt)


def bucketed_nearest(new: Tensor, probes: Tensor, cached: CodedKeys) -> Nearest:
    """The best cosine of new (b, n, s, d) to cached keys in its `probes` (b, n, s, p).

    Keys are sorted by bucket first. For some new keys at a time, as many candidates are gathered as
    the fullest buckets have.
    """
    order, first, past = bucket_ranges(probes, cached)
    longest = _longest(past - first, order.shape[2])
    if longest == 0:
        return nearest_by(new, cached.keys[:, :, :0], cached.allowed[:, :, :0])
    count, width = probes.shape[3], new.shape[-1]
    size = max(1, GATHERED // (count * longest * width))
    if new.is_meta:  # a rehearsal: every part uses as much memory as the first
        starts, stops = (x[:, :, : size * count] for x in (first, past))
        _nearest_candidate(new[:, :, :size], starts, stops, order, cached.keys, longest)
        return no_match(new)
    parts = zip(new.split(size, 2), first.split(size * count, 2), past.split(size * count, 2),
                strict=True)  # fmt: skip
    matches = [_nearest_candidate(*part, order, cached.keys, longest) for part in parts]
    return Nearest(
        torch.cat([part.similarity for part in matches], 2),
        torch.cat([part.number for part in matches], 2),
    )


def _nearest_candidate(  # noqa: PLR0913
    new: Tensor, first: Tensor, past: Tensor, order: Tensor, keys: Tensor, longest: int
) -> Nearest:
    """The nearest candidate of each new key.

    Candidates are the keys numbered `order` (b, n, t) from `first` to before `past` (b, n, s p); no
    range is longer than `longest`.
    """
    at = first.unsqueeze(-1) + torch.arange(longest, device=new.device)  # (b, n, s p, longest)
    number = order.gather(2, at.clamp(max=order.shape[2] - 1).flatten(2))
    candidates = keys.gather(2, number.unsqueeze(-1).expand(-1, -1, -1, new.shape[-1]))
    return _best_candidate(new, candidates, number, at < past.unsqueeze(-1))


def _longest(counts: Tensor, most: int) -> int:
    """The largest count; in a rehearsal, which has no numbers, its bound `most`."""
    if counts.is_meta:
        return most
    return int(counts.max()) if counts.numel() else 0


def bucket_ranges(probes: Tensor, cached: CodedKeys) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of allowed keys sorted by bucket (b, n, t), and the range of each probed bucket.

    The ranges are two tensors (b, n, s p): where a bucket begins and ends in the sorted numbers.
    """
    hidden = torch.iinfo(torch.int16).max
    bucket = cached.codes[..., 0].masked_fill(~cached.allowed, hidden)
    sorted_bucket, order = bucket.sort(dim=-1, stable=True)
    flat_probes = probes.flatten(2).contiguous()
    first = torch.searchsorted(sorted_bucket, flat_probes, right=False)
    return order, first, torch.searchsorted(sorted_bucket, flat_probes, right=True)


def _best_candidate(new: Tensor, candidates: Tensor, number: Tensor, valid: Tensor) -> Nearest:
    """The nearest of each new key's `candidates` (b, n, s c, d), each with its `number`."""
    b, n, s, d = new.shape
    own = candidates.reshape(b * n * s, -1, d)
    best = nearest_by(new.reshape(1, b * n * s, 1, d), own[None], valid.reshape(1, b * n * s, -1))
    index = best.number.view(b, n, s, 1)
    similarity = best.similarity.view(b, n, s)
    return Nearest(similarity, number.view(b, n, s, -1).gather(3, index).squeeze(3))
