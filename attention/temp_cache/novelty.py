"""What differs stays: a fixed number of entries a head, none of them merged.

FAST-AR (arXiv 2602.01801) merges like keys and says nothing of what gives way when room runs out.
Here an entry is worth as much as its token differs from every newer one: what is said again by a
newer token gives way first, as much as their keys and their values are alike, and what never came
back stays however old. A token is judged by all heads of its layer and all branches together: the
scenery that a token shows is seen by some heads only, and which these are no head knows. Only
similarity to new tokens is ever computed, each once, and of a latent frame's tokens every second
one will do: the other half have their turn in the next one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ann.nearest import KEY_BLOCK
from ..scatter import grid
from .entries import Entries
from .merge import NewFrame, Rules

MIN_NORM = 1e-6
EVERY = 2  # of a new latent frame's tokens, which older ones are compared with

KeysValues = tuple[Tensor, Tensor]


def keep_novel(
    entries: Entries, new: NewFrame, rules: Rules, used: int, *, full: bool = False
) -> Tensor:
    """Put a latent frame's keys in the place of what is worth least, of which the first `used`
    slots may be in use, and all are if it is `full`. Needs room for the sink and the newest frames
    that stay. Gives the slots (b, n, s) that they went to.
    """
    if used:
        worth = entries.worth[:, :, :used]
        asking = slice(new.frame % min(EVERY, new.keys.shape[2]), None, EVERY)
        kept = entries.keys[:, :, :used], entries.values[:, :, :used]
        said_again = new.keys[:, :, asking], new.values[:, :, asking]
        torch.minimum(worth, -redundancy(kept, said_again, rules.centre), out=worth)
    slots = _least_worth(entries, new, rules, full=full)
    where = (*grid(slots), slots)
    entries.keys[where] = new.keys.to(entries.keys.dtype)
    entries.values[where] = new.values.to(entries.values.dtype)
    entries.mass.scatter_(2, slots, 1)
    entries.worth.scatter_(2, slots, torch.inf)
    entries.frame.scatter_(2, slots, new.frame)
    place = torch.arange(slots.shape[2], dtype=entries.place.dtype, device=slots.device)
    entries.place.scatter_(2, slots, place.expand_as(slots))
    return slots


def redundancy(cached: KeysValues, new: KeysValues, centre: Tensor) -> Tensor:
    """How alike each of t `cached` tokens and any of s `new` ones are at most (t,): the cosine of
    their keys, those of all heads in a row and less `centre` (b, n, 1, d), and that of their
    values, together -2 to 2, the mean of all rows. Keys and values are (b, n, t or s, d).
    """
    off = centre.float()
    asking = [_unit(new[0].float() - off), _unit(new[1].float())]
    found = list[Tensor]()
    for first in range(0, cached[0].shape[2], KEY_BLOCK):
        keys, values = (kept[:, :, first : first + KEY_BLOCK].float() for kept in cached)
        alike = _cosines(keys - off, asking[0]) + _cosines(values, asking[1])  # (b, s, t)
        found.append(alike.amax(1).mean(0))
    return torch.cat(found)


def _cosines(kept: Tensor, asking: Tensor) -> Tensor:
    """Of tokens (b, n, t, d), all heads in a row, and unit ones (b, n, s, d): (b, s, t)."""
    cosines: Tensor = (asking @ kept.transpose(2, 3)).sum(1) / _norm(kept).transpose(1, 2)
    return cosines


def _unit(x: Tensor) -> Tensor:
    """Tokens (b, n, s, d), all heads in a row, of length 1."""
    return x / _norm(x).unsqueeze(1)


def _norm(x: Tensor) -> Tensor:
    """The length (b, s, 1) of tokens (b, n, s, d), all heads in a row."""
    length = x.square().sum((1, 3)).sqrt()  # torch's norm over two dimensions is 4 times slower
    return length.clamp(min=MIN_NORM).unsqueeze(-1)


def _least_worth(entries: Entries, new: NewFrame, rules: Rules, *, full: bool) -> Tensor:
    """A slot (b, n, s) for each new key: empty ones, from the front, then those worth least."""
    frame, count = entries.frame, entries.frame.shape[2]
    stays = (frame < rules.sink_frames) | (frame > new.frame - rules.recent_frames)
    worth = torch.where(stays, torch.inf, entries.worth)
    if not full:
        empty = torch.arange(count, device=worth.device) - (count + 2.0)  # below every worth
        worth = torch.where(entries.mass > 0, worth, empty)
    return worth.topk(new.keys.shape[2], dim=-1, largest=False).indices
