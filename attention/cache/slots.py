"""Which latent frame lies in which slot of a KV cache, as plain integers."""

from __future__ import annotations

from collections.abc import Sequence


class FrameSlots:
    """The latent frames of a history by slot; all layers share them.

    Both `kept_slots` and `recent` list the frame in each of their slots. New frames pass through
    the recent slots first, where the store has any. `gap` positions lie between the first
    `sink_frames` and all others. `committed` counts the latent frames ever
    committed. `pending` lists frames that are about to be committed again under the numbers they
    have. With `keep_distances` evicted frames leave gaps between the positions of others.
    """

    def __init__(self, sink_frames: int = 0, *, keep_distances: bool = False) -> None:
        self.keep_distances = keep_distances
        self.committed = 0
        self.sink_frames, self.gap = sink_frames, 0
        self.kept_slots: list[int] = []
        self.recent: list[int] = []
        self.pending: list[int] = []

    @property
    def kept_frames(self) -> list[int]:
        """The latent frame in each slot: kept slots, then recent ones."""
        return [*self.kept_slots, *self.recent]

    @property
    def positions(self) -> list[int]:
        """The position of the frame in each slot.

        It is the frame's rank among all held frames, plus the gap if it lies behind that. Where
        distances are kept, frames count back from the next one, whose position is the number held.
        """
        if self.keep_distances:
            first = self.next_frame - len(self.kept_frames)
            return [frame - first for frame in self.kept_frames]
        rank = {frame: i for i, frame in enumerate(sorted(self.kept_frames))}
        at = {f: i if f < self.sink_frames else i + self.gap for f, i in rank.items()}
        return [at[frame] for frame in self.kept_frames]

    @property
    def next_position(self) -> int:
        """The position of the frame that follows the history."""
        return len(self.kept_frames) + self.gap

    def next_positions(self, count: int) -> list[int]:
        """The positions of the next `count` latent frames."""
        first = self.next_position
        if not self.keep_distances:
            return [*range(first, first + count)]
        ahead = [*self.pending, *range(self.committed, self.committed + count)][:count]
        return [frame - self.next_frame + first for frame in ahead]

    @property
    def next_frame(self) -> int:
        """The number of the latent frame that is committed next."""
        return self.pending[0] if self.pending else self.committed

    def take_number(self) -> int:
        """Count one commit and return the number of its latent frame."""
        if self.pending:
            return self.pending.pop(0)
        self.committed += 1
        return self.committed - 1

    def clear(self) -> None:
        """Empty all slots and count from frame 0 again."""
        self.committed = 0
        self.kept_slots.clear()
        self.recent.clear()
        self.pending.clear()

    def commit_again(self, frames: Sequence[int]) -> None:
        """Empty all slots; `frames` will be committed again under these numbers."""
        self.clear()
        self.pending, self.committed = [*frames], frames[-1] + 1 if frames else 0

    def recommit(self) -> None:
        """Empty all slots; their frames will be committed again, oldest first."""
        self.pending = sorted({*self.pending, *self.kept_frames})
        self.kept_slots.clear()
        self.recent.clear()

    def select(self, frames: Sequence[int]) -> tuple[list[int], list[int]]:
        """Keep only `frames`; return the kept and the recent slots that they were in."""
        chosen = frozenset(frames)
        order, recent_order = (
            [slot for slot, frame in enumerate(slots) if frame in chosen]
            for slots in (self.kept_slots, self.recent)
        )
        self.kept_slots = [self.kept_slots[slot] for slot in order]
        self.recent = [self.recent[slot] for slot in recent_order]
        return order, recent_order
