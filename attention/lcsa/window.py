"""Self-attention over the newest groups: what one pass may look at, and what it hands on.

Keys are stored rotated by their place in the whole video, in blocks. Angles are computed in float64
for any position, so a stream has no end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, cat

from ..rope import Rotation, rotate
from .choice import BlockPairs, choose_pairs
from .grid import BlockGrid

AttendPairs = Callable[[Tensor, Tensor, Tensor, BlockPairs], Tensor]
"""The signature of `masked.attend_pairs`."""

Groups = tuple[tuple[tuple[Tensor, Tensor], ...], ...]
"""For every layer the keys and values (n, blocks, 128, d) of its newest groups, the oldest first.

Keys are rotated. Two states share the groups that are in both. Empty at the start of a video.
"""


@dataclass(frozen=True, slots=True)
class LocalRule:
    """Which blocks may be read: groups back, blocks around, and how many pairs in a group.

    `reach` is the side of the square of near blocks, `pairs` counts those of one head and one group
    of queries.
    """

    groups: int
    reach: int
    pairs: int


class GroupPass:
    """The attention of one pass over whole groups, beside the groups before.

    Call it as `dit.SelfAttention`, once for every layer in order; `groups` then holds what the next
    pass needs.
    """

    def __init__(
        self,
        grid: BlockGrid,
        rule: LocalRule,
        past: Groups,
        rotation: Rotation,
        attend: AttendPairs,
    ) -> None:
        self._grid, self._rule, self._past, self._rotation = grid, rule, past, rotation
        self._attend = attend
        self._near: Tensor | None = None
        self._layers: list[tuple[tuple[Tensor, Tensor], ...]] = []

    @property
    def groups(self) -> Groups:
        """Keys and values of the newest groups, after the pass."""
        return tuple(self._layers)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (1, s, n, d) of one layer."""
        blocks = self._grid.to_blocks
        queries, keys = (blocks(rotate(x, self._rotation)) for x in (q, k))
        values = blocks(v)
        past = self._past[layer] if self._past else ()
        newest = (*past, *self._groups_of(keys, values))[-self._rule.groups :]
        if past:
            old_keys, old_values = zip(*past, strict=True)
            keys, values = cat([*old_keys, keys], 1), cat([*old_values, values], 1)
        if self._near is None:
            self._near = self._grid.near(self._rule.reach, q.device)
        pairs = choose_pairs(queries, keys, self._near, self._rule.pairs)
        out = self._attend(queries, keys, values, pairs)
        self._layers.append(newest)
        return self._grid.from_blocks(out)

    def _groups_of(self, keys: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The newest whole groups of a pass, each with its own memory."""
        blocks = self._grid.group_blocks
        parts = (x.split(blocks, 1)[-self._rule.groups :] for x in (keys, values))
        return ((k.clone(), v.clone()) for k, v in zip(*parts, strict=True))
