"""The latent frames of a merged history: which count as held, and how far back entries reach."""

from __future__ import annotations

from collections.abc import Sequence

from .policy import TempCache


class FrameRecord:
    """The latent frames `committed` so far, and those of them that count as `held`, oldest first.

    Entries of a frame that is no longer held may remain; positions count held frames only.
    """

    def __init__(self, policy: TempCache) -> None:
        self.policy = policy
        self.committed = 0
        self.kept_frames: list[int] = []

    @property
    def next_frame(self) -> int:
        """The number of the latent frame that is committed next."""
        return self.committed

    @property
    def positions(self) -> list[int]:
        """Window-relative positions of held frames, for keys that are the newest of their entry.

        Not ranks: positions are below 0 once frames between held ones have left.
        """
        count = len(self.kept_frames)
        return [count - min(self.committed - frame, self.farthest) for frame in self.kept_frames]

    @property
    def next_position(self) -> int:
        """The position of the frame that follows the history."""
        return len(self.kept_frames)

    @property
    def farthest(self) -> int:
        """The largest distance in latent frames from an entry to the active frames."""
        reach = self.policy.reach_frames
        return max(1, self.committed if reach is None else min(reach, self.committed))

    @property
    def complete_sink_frames(self) -> int:
        """Sink frames that are held for good; they came first, so their slots are in front."""
        sink = self.kept_frames[: self.policy.sink_frames]
        return sum(rank == frame for rank, frame in enumerate(sink))

    def numbers(self, positions: Sequence[int]) -> list[int]:
        """The frame numbers at window-relative `positions`."""
        gone = self.committed - len(self.kept_frames)
        return [gone + position for position in positions]

    def append(self, count: int) -> None:
        """Count `count` more frames as committed and held, within the limit of the policy."""
        for _ in range(count):
            self.kept_frames.append(self.committed)
            self.committed += 1
        while len(self.kept_frames) > self.policy.limit:
            del self.kept_frames[self.policy.victim(self.kept_frames)]

    def clear(self) -> None:
        """Count from frame 0 again."""
        self.committed = 0
        self.kept_frames.clear()
