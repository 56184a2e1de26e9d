"""Buckets: keys and queries that point the same way get the same number.

An index by buckets codes a key by its bucket, and looks for the nearest key only in the buckets it
probes. Sparse attention sorts keys by bucket, and keeps prompt tokens that share one with a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from .nearest import Coded, Nearest, nearest_by, none_found

GATHERED = 2**20
"""Elements of candidates that are there at once in a head, or those of one new key."""


class Buckets(Protocol):
    """A partition of the directions a head's keys and queries can have."""

    count: int
    """Buckets of a head."""

    def learn(self, layer: int, keys: Tensor) -> None:
        """Take note of keys (b, n, s, d) that are about to be cached; codes given stay valid."""

    def of(self, layer: int, vectors: Tensor) -> Tensor:
        """The bucket (b, n, s) int16 of keys or queries (b, n, s, d)."""

    def probes(self, layer: int, vectors: Tensor, count: int) -> Tensor:
        """The `count` likeliest buckets (b, n, s, count) int16 of what is near, its own first."""

    def saved(self) -> dict[str, Tensor]:
        """What it has learnt, by name."""

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Know just what `saved` gave; an empty one forgets all."""


BucketedNearest = Callable[[Tensor, Tensor, Coded], Nearest]
"""The signature of `bucketed_nearest`."""


class BucketIndex:
    """Nearest keys among those in the probed buckets."""

    code_width = 1
    code_dtype = torch.int16

    def __init__(self, buckets: Buckets, probes: int, match: BucketedNearest | None = None) -> None:
        self.buckets, self.probes, self.match = buckets, probes, match or bucketed_nearest

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """The bucket of each key (b, n, s, d), as (b, n, s, 1)."""
        self.buckets.learn(layer, keys)
        return self.buckets.of(layer, keys).unsqueeze(-1)

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: Coded) -> Nearest:
        """The nearest of those in the probed buckets; none where they are empty."""
        probes = self.buckets.probes(layer, new, self.probes)
        return self.match(new, probes, cached)

    def saved(self) -> dict[str, Tensor]:
        """What the buckets have learnt."""
        return self.buckets.saved()

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Know just what `saved` gave."""
        self.buckets.restore(learnt)


def bucketed_nearest(new: Tensor, probes: Tensor, cached: Coded) -> Nearest:
    """The best cosine of new (b, n, s, d) to cached keys in its `probes` (b, n, s, p).

    Candidates are gathered, as many as the fullest buckets have, for some of the new keys at a
    time: keys are sorted by bucket first.
    """
    order, first, past = bucket_ranges(probes, cached)
    longest = _longest(past - first, order.shape[2])
    if longest == 0:
        return nearest_by(new, cached.keys[:, :, :0], cached.open[:, :, :0])
    count, width = probes.shape[3], new.shape[-1]
    size = max(1, GATHERED // (count * longest * width))
    parts = zip(new.split(size, 2), first.split(size * count, 2), past.split(size * count, 2),
                strict=True)  # fmt: skip
    if new.is_meta:  # a rehearsal: every part takes as much as the first
        _of_candidates(*next(parts), order, cached.keys, longest)
        return none_found(new)
    made = [_of_candidates(*part, order, cached.keys, longest) for part in parts]
    return Nearest(
        torch.cat([one.similarity for one in made], 2), torch.cat([one.number for one in made], 2)
    )


def _of_candidates(  # noqa: PLR0913
    new: Tensor, first: Tensor, past: Tensor, order: Tensor, keys: Tensor, longest: int
) -> Nearest:
    """The nearest key to each of some new ones, among those numbered `order` (b, n, t) between
    `first` and `past` (b, n, s p); no range is longer than `longest`.
    """
    at = first.unsqueeze(-1) + torch.arange(longest, device=new.device)  # (b, n, s p, longest)
    number = order.gather(2, at.clamp(max=order.shape[2] - 1).flatten(2))
    found = keys.gather(2, number.unsqueeze(-1).expand(-1, -1, -1, new.shape[-1]))
    return _best_candidate(new, found, number, at < past.unsqueeze(-1))


def _longest(counts: Tensor, most: int) -> int:
    """The largest of the counts; in a rehearsal, which has no numbers, the `most` it can be."""
    if counts.is_meta:
        return most
    return int(counts.max()) if counts.numel() else 0


def bucket_ranges(probes: Tensor, cached: Coded) -> tuple[Tensor, Tensor, Tensor]:
    """Open keys' numbers in order of their bucket (b, n, t), and where in it each probed bucket
    begins and ends, (b, n, s p).
    """
    hidden = torch.iinfo(torch.int16).max
    bucket = cached.codes[..., 0].masked_fill(~cached.open, hidden)
    sorted_bucket, order = bucket.sort(dim=-1, stable=True)
    wanted = probes.flatten(2).contiguous()
    first = torch.searchsorted(sorted_bucket, wanted, right=False)
    return order, first, torch.searchsorted(sorted_bucket, wanted, right=True)


def _best_candidate(new: Tensor, found: Tensor, number: Tensor, there: Tensor) -> Nearest:
    """Of the candidates `found` (b, n, s c, d) of each new key, by `number`, the nearest."""
    b, n, s, d = new.shape
    own = found.reshape(b * n * s, -1, d)
    best = nearest_by(new.reshape(1, b * n * s, 1, d), own[None], there.reshape(1, b * n * s, -1))
    index = best.number.view(b, n, s, 1)
    similarity = best.similarity.view(b, n, s)
    return type(best)(similarity, number.view(b, n, s, -1).gather(3, index).squeeze(3))
