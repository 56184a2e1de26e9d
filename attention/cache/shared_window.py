"""A window that active frames share with the history: what a pass sees depends on its length.

The sink is moved next to the newest frames that fit beside the active ones, so its keys are rotated
for every pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..dense import parts
from ..layout import HistoryAttention
from ..rope import rotate_into
from ..token_numbers import token_numbers
from .kv_cache import KVCache
from .placed_windows import SharedWindow


class ChosenKeys:
    """Keys and values of chosen slots of a cache, in this order, at positions of their own.

    There is room for `active_frames` behind them. Valid until the next commit.
    """

    def __init__(
        self, cache: KVCache, slots: Sequence[int], positions: Sequence[int], active_frames: int
    ) -> None:
        self.cache, self.active_frames = cache, active_frames
        self.frame_tokens = cache.shape.frame_tokens
        self._frames = [cache.kept_frames[slot] for slot in slots]
        self._rotation = cache.shape.rotation(positions, cache.device)
        self._tokens = token_numbers(slots, self.frame_tokens, cache.device)

    def length(self, layer: int) -> int:
        """Keys of the chosen slots."""
        return len(self._tokens)

    def frames(self, layer: int) -> list[int]:
        """The latent frame of each `frame_tokens` keys."""
        return self._frames

    def key_frames(self, layer: int, rows: slice = slice(None)) -> None:
        """None: `frames` tells the latent frame of every key."""

    def workspace(
        self, layer: int, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rotated keys and values (b, n, t, d) of the batch `rows`, and no bias.

        The history comes first, then room for active frames. The tensors last for one layer call.
        """
        keys, values = (past[rows][:, self._tokens] for past in self.cache.history(layer))
        rotated = self.cache.rotated_keys.store.rotated(layer)[rows]
        rotate_into(rotated, keys, self._rotation)
        room = values.new_empty(
            len(values), self.active_frames * self.frame_tokens, *values.shape[2:]
        )
        return rotated.transpose(1, 2), torch.cat([values, room], 1).transpose(1, 2), None


class SharedWindowCache(KVCache):
    """A history of which a pass sees what fits beside its own latent frames."""

    policy: SharedWindow

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> HistoryAttention:
        """Attention of `frames` active latent frames to the sink and the newest that fit."""
        by_time = sorted(self.kept_frames)
        seen = [by_time[rank] for rank in self.policy.ranks_seen(len(by_time), frames)]
        sink = sum(frame < self.policy.sink_frames for frame in seen)
        others = len(seen) - sink
        begins = -self.policy.sink_distance(sink, others)
        places = [*range(begins, begins + sink), *range(-others, 0)]
        return self._attention_to(
            seen, places, self.shape.visible(frames, visible), rows, positions
        )

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """Attention of finished frames to those that their commit sees, in the places it asks."""
        by_time, first = sorted(self.kept_frames), self.slots.next_frame
        seen = self.policy.seen_by_commit(by_time, first, len(visible))
        places = [-before for before in self.policy.commit_places(seen, first)]
        return self._attention_to(seen, places, visible, slice(None), ())

    def restart(self, frames: Sequence[int] = ()) -> None:
        """Forget the frames held; `frames` will be committed again under their own numbers."""
        super().restart(frames)
        self.slots.commit_again(frames)

    def _attention_to(
        self,
        seen: Sequence[int],
        places: Sequence[int],
        visible: Sequence[int],
        rows: slice,
        positions: Sequence[int],
    ) -> HistoryAttention:
        """Attention to the held frames `seen` at `places`, negative: before the active frames."""
        count, frames = len(self.kept_frames), len(visible)
        slots = [self.kept_frames.index(frame) for frame in seen]
        first = self.rotated_keys.layout.origin + count
        keys = ChosenKeys(self, slots, [first + place for place in places], frames)
        active = self.rotated_keys.active_rotation(positions or range(count, count + frames))
        seen_active = parts(visible, 0, keys.frame_tokens)
        return HistoryAttention(keys, seen_active, rows, active, self.shape.products)
