"""Merging keys that say the same: TempCache of FAST-AR (arXiv 2602.01801), within a fixed number of
entries a head, which the paper leaves open.

A new key whose nearest cached key of the same head is more similar than a threshold is merged into
it: the newest key and its place stay, values are averaged by mass, masses add up. An entry of mass
m counts as m keys, + log m in its logit: exact for identical keys. When entries run out, the most
similar pairs of a new and a cached key are merged below the threshold too, then the entries that
were attended to least give way.

A heavy entry's value moves by the m-th part of a difference, which what it is stored in may be too
coarse to hold: it would never move again. So what is new has at least `least_share` of a value, and
the mean is over about the newest keys: 4,096 in float32, 45 in float16, 16 in bfloat16 and int8,
4 in fp8 and int4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..ann.nearest import Coded, Index
from ..scatter import grid, scatter_add_rows
from .entries import Entries


@dataclass(frozen=True, slots=True)
class Rules:
    """When keys are merged: above the cosine `threshold` (n, 1), or, for want of room, above
    `floor`. Entries of the first `sink_frames` stay as they are. `centre` (b, n, 1, d) is taken off
    keys before they are compared: what all keys of a head share says nothing. An entry counts as
    `most_mass` keys at most; from then on, what is merged into it outweighs what was. The keys
    of a frame have `least_share` of the value that they are merged into, or more. Where nothing is
    merged (unlike.py), the newest `recent_frames` stay too.
    """

    threshold: Tensor
    floor: float
    sink_frames: int
    most_mass: float
    centre: Tensor
    least_share: float = 0.0
    recent_frames: int = 0


@dataclass(frozen=True, slots=True)
class NewFrame:
    """Keys and values (b, n, s, d) of latent frame number `frame`, tokens in order."""

    keys: Tensor
    values: Tensor
    frame: int


def absorb(layer: int, entries: Entries, new: NewFrame, rules: Rules, index: Index) -> Tensor:
    """Take a latent frame's keys into the entries; needs room for the sink and one frame. Gives the
    slots (b, n, s) that they went to.
    """
    compared = new.keys - rules.centre
    codes = index.encode(layer, compared)
    kept = entries.mass > 0
    targets = kept & (entries.frame >= rules.sink_frames)
    cached = Coded(entries.keys - rules.centre, entries.codes, targets)
    near = index.nearest(layer, compared, codes, cached)
    merging = torch.zeros_like(near.similarity, dtype=torch.bool)
    if new.frame >= rules.sink_frames:
        merging = near.similarity > rules.threshold
        free = (~kept).sum(-1, keepdim=True)
        lacking = (~merging).sum(-1, keepdim=True) - free  # (b, n, 1)
        merging |= _most_similar(near.similarity, merging, lacking, rules.floor)
    _merge(entries, new, near.number, merging, rules.least_share)
    changed = torch.zeros_like(entries.frame, dtype=torch.int8)
    changed.scatter_reduce_(2, near.number, merging.to(torch.int8), "amax")
    spare = targets & (changed == 0)
    _evict(entries, spare, (~merging).sum(-1, keepdim=True), most=new.keys.shape[2])
    slots = torch.where(merging, near.number, _free_slots(entries.mass == 0, ~merging))
    _write_newest(entries, new, codes, slots)
    entries.mass.scatter_add_(2, slots, (~merging).to(entries.mass.dtype))
    entries.mass.clamp_(max=rules.most_mass)
    fresh = torch.where(merging, entries.worth.gather(2, slots), torch.inf)
    entries.worth.scatter_(2, slots, fresh)
    return slots


def observe(worth: Tensor, weights: Tensor, decay: float) -> None:
    """Note in `worth` (b, n, c) the share of attention `weights` (b, n, t) that the first slots got
    in a pass.
    """
    known = worth[:, :, : weights.shape[2]]
    seen = decay * known + (1 - decay) * weights
    known.copy_(torch.where(known.isinf(), weights, seen))


def _most_similar(similarity: Tensor, merging: Tensor, lacking: Tensor, floor: float) -> Tensor:
    """Of the keys not merged, the `lacking` most similar ones if above `floor`."""
    open_ = similarity.masked_fill(merging, -torch.inf)
    rank = open_.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return (rank < lacking) & (open_ > floor)


def _merge(
    entries: Entries, new: NewFrame, target: Tensor, merging: Tensor, least_share: float
) -> None:
    """Add the merging keys' mass and values to their targets, several to one at once: those are
    added up before what is stored is rounded.
    """
    where = (*grid(target), target)
    weight = merging.to(entries.mass.dtype)
    before, value = entries.mass[where], entries.values[where].float()
    entries.mass.scatter_add_(2, target, weight)
    mass = entries.mass[where]
    least = least_share / (mass - before).clamp(min=1)  # of each key, as many as came at once
    share = weight * torch.maximum(1 / mass.clamp(min=1), least)
    change = share.unsqueeze(-1) * (new.values.float() - value)
    last = _last_of_slot(target, entries.mass.shape[2])
    total = scatter_add_rows(torch.zeros_like(change), last, change)
    source = (*grid(last), last)
    entries.values[where] = (value + total[source]).to(entries.values.dtype)


def _evict(entries: Entries, spare: Tensor, wanted: Tensor, *, most: int) -> None:
    """Empty the least attended `spare` entries until `wanted` (b, n, 1) slots are free."""
    lacking = wanted - (entries.mass == 0).sum(-1, keepdim=True)
    unmeasured = torch.finfo(entries.worth.dtype).max
    score = entries.worth.clamp(max=unmeasured).masked_fill(~spare, torch.inf)
    count = min(most, score.shape[2])
    least = score.topk(count, dim=-1, largest=False, sorted=True).indices
    rank = torch.arange(count, device=least.device)
    kept = entries.mass.gather(2, least).masked_fill(rank < lacking, 0)
    entries.mass.scatter_(2, least, kept)


def _free_slots(free: Tensor, wanted: Tensor) -> Tensor:
    """For the i-th `wanted` key (b, n, s) the i-th `free` slot (b, n, c); 0 for the others."""
    rank = free.long().cumsum(-1) - 1
    slot = torch.arange(free.shape[-1], device=free.device).expand_as(rank)
    by_rank = torch.zeros_like(rank).scatter_reduce(
        2, rank.clamp(min=0), torch.where(free, slot, 0), "amax"
    )
    order = (wanted.long().cumsum(-1) - 1).clamp(min=0)
    return by_rank.gather(2, order) * wanted


def _write_newest(entries: Entries, new: NewFrame, codes: Tensor, slots: Tensor) -> None:
    """Every slot that got keys takes the last of them, its code and its place; a slot with nothing
    in it takes its value too.
    """
    last = _last_of_slot(slots, entries.frame.shape[2])  # whoever shares a slot writes the same
    where = (*grid(slots), slots)
    source = (*grid(last), last)
    entries.keys[where] = new.keys[source].to(entries.keys.dtype)
    entries.codes[where] = codes[source]
    entries.place[where] = last.to(entries.place.dtype)
    entries.frame[where] = torch.full_like(last, new.frame).to(entries.frame.dtype)
    empty = (entries.mass[where] == 0).unsqueeze(-1)
    values = torch.where(empty, new.values.to(entries.values.dtype), entries.values[where])
    entries.values[where] = values


def _last_of_slot(slots: Tensor, count: int) -> Tensor:
    """For each new key, the number (b, n, s) of the last one that goes to the same slot (b, n, s)
    of so many.
    """
    number = torch.arange(slots.shape[2], device=slots.device).expand_as(slots)
    last = number.new_full((*slots.shape[:2], count), -1)
    return last.scatter_reduce_(2, slots, number, "amax").gather(2, slots)
