"""Keep the tokens that differ: a fixed number of entries a head, none of them merged.

FAST-AR (arXiv 2602.01801) merges similar keys and leaves open what to evict when entries run out.
Here an entry's retention score is its difference from every newer token. A token that newer tokens
repeat is evicted first, by the similarity of both keys and values; a token that never came back
stays however old it is. All heads of a layer and all branches judge a token together: only some
heads see the scenery that a token shows, and no head knows which. Only similarities to new tokens
are computed, each once, and for some tokens of a latent frame; the next frame uses others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ann.nearest import KEY_BLOCK
from ..backends import torch_since
from ..pieces import piece_starts
from .entries import Entries
from .merge import NewFrame, Rules

MIN_NORM = 1e-6
WIDE_SUMS_SINCE = (2, 8)
"""The first torch whose products of 16-bit factors may be float32, on NVIDIA cards."""
MIN_STRIDE, MAX_COMPARED = 2, 400
"""Older tokens are compared with every second token of a new latent frame, or fewer: at most 400.

Neighbours of a frame of 1,560 tokens differ less than those of the demo's 24.
"""

KeysValues = tuple[Tensor, Tensor]


def keep_novel(
    entries: Entries, new: NewFrame, rules: Rules, used: int, *, full: bool = False
) -> Tensor:
    """Replace the entries with the lowest retention score by a latent frame's keys.

    Return the slots (b, n, s) the keys went to, the same for all heads and rows. Only the first
    `used` slots may be in use; all of them are if `full`. Changes `entries`, which need room for
    the sink and the newest frames that stay.
    """
    if used:
        scores = entries.retention_score[:, :, :used]
        sampled = compared_tokens(new.frame, new.keys.shape[2])
        older = entries.keys[:, :, :used], entries.values[:, :, :used]
        newer = new.keys[:, :, sampled], new.values[:, :, sampled]
        torch.minimum(scores, -redundancy(older, newer, rules.centre), out=scores)
    slots = _lowest_scores(entries, new, rules, full=full)
    entries.keys.index_copy_(2, slots[0, 0], new.keys.to(entries.keys.dtype))
    entries.values.index_copy_(2, slots[0, 0], new.values.to(entries.values.dtype))
    entries.mass.scatter_(2, slots, 1)
    entries.retention_score.scatter_(2, slots, torch.inf)
    entries.frame.scatter_(2, slots, new.frame)
    place = torch.arange(slots.shape[2], dtype=entries.place.dtype, device=slots.device)
    entries.place.scatter_(2, slots, place.expand_as(slots))
    return slots.expand(*new.keys.shape[:2], -1)


def compared_tokens(frame: int, tokens: int) -> slice:
    """Which of a frame's `tokens` older ones are compared with; all of them in turn."""
    stride = min(tokens, max(MIN_STRIDE, -(-tokens // MAX_COMPARED)))
    return slice(frame % stride, None, stride)


def redundancy(cached: KeysValues, new: KeysValues, centre: Tensor) -> Tensor:
    """The largest similarity (t,) of each of t `cached` tokens to any of s `new` ones, -2 to 2.

    The similarity is the cosine of keys less `centre` (b, n, 1, d) plus the cosine of values, over
    all heads concatenated, averaged over batch rows. Keys and values are (b, n, t or s, d).
    """
    centre, dtype, count = centre.float(), cached[0].dtype, cached[0].shape[2]
    directions = _unit(_side_by_side(new[0].float() - centre)), _unit(_side_by_side(new[1].float()))
    largest = centre.new_empty(count)
    for first in piece_starts(count, KEY_BLOCK, largest):
        at = slice(first, first + KEY_BLOCK)
        keys, values = (part[:, :, at] for part in cached)
        keys = (keys.float() - centre).to(dtype)
        similarity = _cosines(keys, directions[0]) + _cosines(values, directions[1])
        largest[at] = similarity.amax(1).mean(0)  # of (b, s, t)
    return largest


def _cosines(tokens: Tensor, directions: Tensor) -> Tensor:
    """Cosines (b, s, t) of tokens (b, n, t, d) and unit vectors (b, s, n d)."""
    vectors = _side_by_side(tokens)
    lengths = vectors.float().square().sum(-1).sqrt().clamp(min=MIN_NORM)
    return _product(directions.to(vectors.dtype), vectors.mT) / lengths.unsqueeze(1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The product of a (b, s, k) and b (b, k, t), summed and returned in float32.

    An NVIDIA GPU multiplies 16-bit factors as they are, several times faster than in float32.
    """
    is_nvidia = a.is_cuda and torch.version.hip is None
    if is_nvidia and a.dtype != torch.float32 and torch_since(WIDE_SUMS_SINCE):
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())


def _side_by_side(x: Tensor) -> Tensor:
    """Tokens (b, n, s, d) as vectors (b, s, n d) of all their heads."""
    return x.transpose(1, 2).flatten(2)


def _unit(x: Tensor) -> Tensor:
    """Vectors (b, s, k) scaled to length 1."""
    return x / x.square().sum(-1, keepdim=True).sqrt().clamp(min=MIN_NORM)


def _lowest_scores(entries: Entries, new: NewFrame, rules: Rules, *, full: bool) -> Tensor:
    """A slot (1, 1, s) for each new key: empty slots from the front, then the lowest scores."""
    frame, count = entries.frame, entries.frame.shape[2]
    stays = (frame < rules.sink_frames) | (frame > new.frame - rules.recent_frames)
    scores = torch.where(stays, torch.inf, entries.retention_score)
    if not full:
        empty = torch.arange(count, device=scores.device) - (count + 2.0)  # below every score
        scores = torch.where(entries.mass > 0, scores, empty)
    return scores.topk(new.keys.shape[2], dim=-1, largest=False).indices
