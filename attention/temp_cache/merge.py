"""Merging similar keys: TempCache of FAST-AR (arXiv 2602.01801) with a fixed number of entries.

A new key is merged into its nearest cached key of the same head if their similarity exceeds a
threshold. The newest key and its place replace the old ones, values are averaged by mass, and
masses add up. An entry of mass m counts as m keys, + log m in its logit, which is exact for
identical keys. The paper leaves open what happens when entries run out. Here the most similar pairs
of a new and a cached key are merged below the threshold too; then the least attended entries are
evicted.

The value of a heavy entry moves by 1/m of a difference. A stored dtype may be too coarse to hold so
small a step, and the value would never move again. So new keys contribute at least `least_share` of
the value, and the mean covers about the newest keys: 4,096 in float32, 45 in float16, 16 in
bfloat16 and int8, 4 in fp8 and int4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..ann.nearest import CodedKeys, Index
from ..scatter import batch_head_index, scatter_add_rows
from .entries import Entries


@dataclass(frozen=True, slots=True)
class Rules:
    """When keys are merged and which entries stay.

    Keys merge above the cosine `threshold` (n, 1), or above `floor` if entries run out. `centre`
    (b, n, 1, d), the mean key of a head, is subtracted before keys are compared. Entries of the
    first `sink_frames` never change. An entry counts as `max_mass` keys at most; from then on, new
    keys outweigh older ones. The keys of a frame contribute at least `least_share` of the value
    they are merged into. Without merging (novelty.py) the newest `recent_frames` stay too.
    """

    threshold: Tensor
    floor: float
    sink_frames: int
    max_mass: float
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
    """Merge or add a latent frame's keys; return the slots (b, n, s) they went to.

    Changes `entries`, which need room for the sink and one frame.
    """
    compared = new.keys - rules.centre
    codes = index.encode(layer, compared)
    occupied = entries.mass > 0
    targets = occupied & (entries.frame >= rules.sink_frames)
    cached = CodedKeys(entries.keys - rules.centre, entries.codes, targets)
    near = index.nearest(layer, compared, codes, cached)
    merging = torch.zeros_like(near.similarity, dtype=torch.bool)
    if new.frame >= rules.sink_frames:
        merging = near.similarity > rules.threshold
        free = (~occupied).sum(-1, keepdim=True)
        lacking = (~merging).sum(-1, keepdim=True) - free  # (b, n, 1)
        merging |= _most_similar(near.similarity, merging, lacking, rules.floor)
    _merge(entries, new, near.number, merging, rules.least_share)
    changed = torch.zeros_like(entries.frame, dtype=torch.int8)
    changed.scatter_reduce_(2, near.number, merging.to(torch.int8), "amax")
    spare = targets & (changed == 0)
    _evict(entries, spare, (~merging).sum(-1, keepdim=True), max_count=new.keys.shape[2])
    slots = torch.where(merging, near.number, _free_slots(entries.mass == 0, ~merging))
    _write_newest(entries, new, codes, slots)
    entries.mass.scatter_add_(2, slots, (~merging).to(entries.mass.dtype))
    entries.mass.clamp_(max=rules.max_mass)
    scores = torch.where(merging, entries.retention_score.gather(2, slots), torch.inf)
    entries.retention_score.scatter_(2, slots, scores)
    return slots


def update_scores(scores: Tensor, weights: Tensor, decay: float) -> None:
    """Average the attention `weights` (b, n, t) of the first slots into `scores` (b, n, c)."""
    known = scores[:, :, : weights.shape[2]]
    averaged = decay * known + (1 - decay) * weights
    known.copy_(torch.where(known.isinf(), weights, averaged))


def _most_similar(similarity: Tensor, merging: Tensor, lacking: Tensor, floor: float) -> Tensor:
    """Of the keys not merged, the `lacking` most similar ones if above `floor`."""
    candidates = similarity.masked_fill(merging, -torch.inf)
    rank = candidates.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return (rank < lacking) & (candidates > floor)


def _merge(
    entries: Entries, new: NewFrame, target: Tensor, merging: Tensor, least_share: float
) -> None:
    """Add the mass and values of the merging keys to their targets.

    Keys with the same target are summed before the stored value is rounded.
    """
    where = batch_head_index(target)
    weight = merging.to(entries.mass.dtype)
    before, value = entries.mass[where], entries.values[where].float()
    entries.mass.scatter_add_(2, target, weight)
    mass = entries.mass[where]
    least = least_share / (mass - before).clamp(min=1)  # of each key, as many as came at once
    share = weight * torch.maximum(1 / mass.clamp(min=1), least)
    change = share.unsqueeze(-1) * (new.values.float() - value)
    last = _last_of_slot(target, entries.mass.shape[2])
    total = scatter_add_rows(torch.zeros_like(change), last, change)
    source = batch_head_index(last)
    entries.values[where] = (value + total[source]).to(entries.values.dtype)


def _evict(entries: Entries, spare: Tensor, demand: Tensor, *, max_count: int) -> None:
    """Empty the least attended `spare` entries until `demand` (b, n, 1) slots are free."""
    lacking = demand - (entries.mass == 0).sum(-1, keepdim=True)
    scores = entries.retention_score
    unmeasured = torch.finfo(scores.dtype).max
    scores = scores.clamp(max=unmeasured).masked_fill(~spare, torch.inf)
    count = min(max_count, scores.shape[2])
    least = scores.topk(count, dim=-1, largest=False, sorted=True).indices
    rank = torch.arange(count, device=least.device)
    remaining_mass = entries.mass.gather(2, least).masked_fill(rank < lacking, 0)
    entries.mass.scatter_(2, least, remaining_mass)


def _free_slots(free: Tensor, mask: Tensor) -> Tensor:
    """For the i-th key of `mask` (b, n, s) the i-th `free` slot (b, n, c); 0 for other keys."""
    rank = free.long().cumsum(-1) - 1
    slot = torch.arange(free.shape[-1], device=free.device).expand_as(rank)
    by_rank = torch.zeros_like(rank).scatter_reduce(
        2, rank.clamp(min=0), torch.where(free, slot, 0), "amax"
    )
    order = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return by_rank.gather(2, order) * mask


def _write_newest(entries: Entries, new: NewFrame, codes: Tensor, slots: Tensor) -> None:
    """Write the last new key of each slot with its code and place; an empty slot gets its value."""
    last = _last_of_slot(slots, entries.frame.shape[2])  # keys of one slot all write the same
    where, source = batch_head_index(slots), batch_head_index(last)
    entries.keys[where] = new.keys[source].to(entries.keys.dtype)
    entries.codes[where] = codes[source]
    entries.place[where] = last.to(entries.place.dtype)
    entries.frame[where] = torch.full_like(last, new.frame).to(entries.frame.dtype)
    empty = (entries.mass[where] == 0).unsqueeze(-1)
    values = torch.where(empty, new.values.to(entries.values.dtype), entries.values[where])
    entries.values[where] = values


def _last_of_slot(slots: Tensor, count: int) -> Tensor:
    """For each new key, the number (b, n, s) of the last new key that goes to the same slot.

    `slots` (b, n, s) are below `count`.
    """
    number = torch.arange(slots.shape[2], device=slots.device).expand_as(slots)
    last = number.new_full((*slots.shape[:2], count), -1)
    return last.scatter_reduce_(2, slots, number, "amax").gather(2, slots)
