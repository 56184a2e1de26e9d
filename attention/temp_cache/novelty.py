"""Keep the tokens that differ: a fixed number of entries a head, none of them merged.

FAST-AR (arXiv 2602.01801) merges similar keys and leaves open what to evict when entries run out.
Here an entry's retention score is its difference from every newer token. A token that newer tokens
repeat is evicted first, by the similarity of both keys and values; a token that never came back
stays however old it is. All heads of a layer and all branches judge a token together: only some
heads see the scenery that a token shows, and no head knows which. Only similarities to new tokens
are computed, each once, and for every second token of a latent frame; the next frame uses the other
half.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ann.nearest import KEY_BLOCK
from ..scatter import batch_head_index
from .entries import Entries
from .merge import NewFrame, Rules

MIN_NORM = 1e-6
TOKEN_STRIDE = 2
"""Older tokens are compared with every second token of a new latent frame."""

KeysValues = tuple[Tensor, Tensor]


def keep_novel(
    entries: Entries, new: NewFrame, rules: Rules, used: int, *, full: bool = False
) -> Tensor:
    """Replace the entries with the lowest retention score by a latent frame's keys.

    Return the slots (b, n, s) the keys went to. Only the first `used` slots may be in use; all of
    them are if `full`. Changes `entries`, which need room for the sink and the newest frames that
    stay.
    """
    if used:
        scores = entries.retention_score[:, :, :used]
        sampled = slice(new.frame % min(TOKEN_STRIDE, new.keys.shape[2]), None, TOKEN_STRIDE)
        older = entries.keys[:, :, :used], entries.values[:, :, :used]
        newer = new.keys[:, :, sampled], new.values[:, :, sampled]
        torch.minimum(scores, -redundancy(older, newer, rules.centre), out=scores)
    slots = _lowest_scores(entries, new, rules, full=full)
    where = batch_head_index(slots)
    entries.keys[where] = new.keys.to(entries.keys.dtype)
    entries.values[where] = new.values.to(entries.values.dtype)
    entries.mass.scatter_(2, slots, 1)
    entries.retention_score.scatter_(2, slots, torch.inf)
    entries.frame.scatter_(2, slots, new.frame)
    place = torch.arange(slots.shape[2], dtype=entries.place.dtype, device=slots.device)
    entries.place.scatter_(2, slots, place.expand_as(slots))
    return slots


def redundancy(cached: KeysValues, new: KeysValues, centre: Tensor) -> Tensor:
    """The largest similarity (t,) of each of t `cached` tokens to any of s `new` ones, -2 to 2.

    The similarity is the cosine of keys less `centre` (b, n, 1, d) plus the cosine of values, over
    all heads concatenated, averaged over batch rows. Keys and values are (b, n, t or s, d).
    """
    centre = centre.float()
    directions = [_unit(new[0].float() - centre), _unit(new[1].float())]
    redundancies = list[Tensor]()
    for first in range(0, cached[0].shape[2], KEY_BLOCK):
        keys, values = (part[:, :, first : first + KEY_BLOCK].float() for part in cached)
        similarity = _cosines(keys - centre, directions[0]) + _cosines(values, directions[1])
        redundancies.append(similarity.amax(1).mean(0))  # of (b, s, t)
    return torch.cat(redundancies)


def _cosines(tokens: Tensor, directions: Tensor) -> Tensor:
    """Cosines (b, s, t) of tokens (b, n, t, d) and unit tokens (b, n, s, d), heads concatenated."""
    cosines: Tensor = (directions @ tokens.transpose(2, 3)).sum(1) / _norm(tokens).transpose(1, 2)
    return cosines


def _unit(x: Tensor) -> Tensor:
    """Tokens (b, n, s, d) scaled to length 1, heads concatenated."""
    return x / _norm(x).unsqueeze(1)


def _norm(x: Tensor) -> Tensor:
    """The length (b, s, 1) of tokens (b, n, s, d), heads concatenated."""
    length = x.square().sum((1, 3)).sqrt()  # torch's norm over two dimensions is 4 times slower
    return length.clamp(min=MIN_NORM).unsqueeze(-1)


def _lowest_scores(entries: Entries, new: NewFrame, rules: Rules, *, full: bool) -> Tensor:
    """A slot (b, n, s) for each new key: empty slots from the front, then the lowest scores."""
    frame, count = entries.frame, entries.frame.shape[2]
    stays = (frame < rules.sink_frames) | (frame > new.frame - rules.recent_frames)
    scores = torch.where(stays, torch.inf, entries.retention_score)
    if not full:
        empty = torch.arange(count, device=scores.device) - (count + 2.0)  # below every score
        scores = torch.where(entries.mass > 0, scores, empty)
    return scores.topk(new.keys.shape[2], dim=-1, largest=False).indices
