"""Keys that differ stay: a fixed number of entries a head, none of them merged.

FAST-AR (arXiv 2602.01801) merges like keys and says nothing of what gives way when room runs out.
Here an entry is worth as much as its key differs from every newer one of its head: what is said
again by a newer key gives way first, at its cosine to that one, and what never came back stays
however old. Only cosines to new keys are ever computed, each once, and of a latent frame's keys
those of every second token will do: the other half have their turn in the next one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .ann.nearest import KEY_BLOCK
from .entries import Entries, grid
from .merge import NewFrame, Rules

SMALLEST_NORM = 1e-6
EVERY = 2  # of a new latent frame's tokens, which older keys are compared with


def keep_unlike(
    entries: Entries, new: NewFrame, rules: Rules, used: int, *, full: bool = False
) -> Tensor:
    """Put a latent frame's keys in the place of what is worth least, of which the first `used`
    slots may be in use, and all are if it is `full`. Needs room for the sink and the newest frames
    that stay. Gives the slots (b, n, s) that they went to.
    """
    if used:
        worth = entries.worth[:, :, :used]
        asking = new.keys[:, :, new.frame % min(EVERY, new.keys.shape[2]) :: EVERY]
        like = likeness(entries.keys[:, :, :used], asking, rules.centre)
        torch.minimum(worth, -like, out=worth)
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


def likeness(cached: Tensor, new: Tensor, centre: Tensor) -> Tensor:
    """The largest cosine (b, n, t) of each of `cached` (b, n, t, d) to any of `new` (b, n, s, d),
    `centre` (b, n, 1, d) taken off all of them.
    """
    unit = F.normalize(new.float() - centre.float(), dim=-1).flatten(0, 1)  # (b n, s, d)
    middle = centre.float().flatten(0, 1)
    off, found = -(unit @ middle.transpose(1, 2)), list[Tensor]()
    for kept in cached.flatten(0, 1).split(KEY_BLOCK, 1):
        cosine = torch.baddbmm(off, unit, kept.float().transpose(1, 2)).amax(1)  # (b n, t)
        norm = torch.linalg.vector_norm(kept.float() - middle, dim=-1).clamp(min=SMALLEST_NORM)
        found.append(cosine / norm)
    best: Tensor = torch.cat(found, 1).unflatten(0, cached.shape[:2])
    return best


def _least_worth(entries: Entries, new: NewFrame, rules: Rules, *, full: bool) -> Tensor:
    """A slot (b, n, s) for each new key: empty ones, from the front, then those worth least."""
    frame, count = entries.frame, entries.frame.shape[2]
    stays = (frame < rules.sink_frames) | (frame > new.frame - rules.recent_frames)
    worth = torch.where(stays, torch.inf, entries.worth)
    if not full:
        empty = torch.arange(count, device=worth.device) - (count + 2.0)  # below every worth
        worth = torch.where(entries.mass > 0, worth, empty)
    return worth.topk(new.keys.shape[2], dim=-1, largest=False).indices
