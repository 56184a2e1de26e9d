"""A window part of which is fetched, before each chunk, from all that left it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..cache.policy import UNBOUNDED_START, WindowSink

RecallBy = Literal["view", "content"]
"""What tells how well a past frame fits the next chunk: the camera's view, or keys and queries."""


@dataclass(frozen=True, slots=True)
class RecallWindow(WindowSink):
    """A sink, the newest frames, and `recall_frames` fetched in runs of neighbours.

    `window_frames` counts all of them. Frames that leave the window are archived in main memory,
    at most `archive_frames` of them, the newest; None archives all. In a `flat_world` the camera
    moves along a painted strip, as in the embedded model's world, and turns count as such moves.
    With `only_new_views`, which needs `by` view, a chunk whose scenery the newest frames show as
    well as any past ones fetches none, and the window holds the newest frames alone.
    """

    recall_frames: int = 9
    runs: int = 1
    by: RecallBy = "view"
    archive_frames: int | None = None
    flat_world: bool = False
    only_new_views: bool = False

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if not 0 <= self.recall_frames < self.window_frames - self.sink_frames:
            raise ValueError(
                "recall_frames must leave room for the sink and one newest frame; got "
                f"{self.recall_frames} of {self.window_frames} with a sink of {self.sink_frames}"
            )
        if self.only_new_views and self.by != "view":
            raise ValueError("only_new_views needs frames that are recalled by view")
        if not 1 <= self.runs <= max(1, self.recall_frames):
            raise ValueError(f"runs must be from 1 to recall_frames; got {self.runs}")
        if self.archive_frames is not None and self.archive_frames < self.recall_frames:
            raise ValueError(
                f"archive_frames must be at least recall_frames; got {self.archive_frames} and "
                f"{self.recall_frames}"
            )

    @property
    def newest_frames(self) -> int:
        """The frames of the window that are neither of the sink nor recalled."""
        return self.window_frames - self.sink_frames - self.recall_frames

    @property
    def window_follows_sink(self) -> bool:
        """False: the frames recalled lie between."""
        return False

    @property
    def remembers(self) -> bool:
        """True: frames that have left the window may come back."""
        return self.recall_frames > 0

    def when_rebuilt(self) -> WindowSink:
        """The sink and newest frames that it holds where nothing is fetched.

        A model that was trained to fetch at any time has always seen a full window.
        """
        newest = self.sink_frames + self.newest_frames
        return WindowSink(newest if self.only_new_views else self.window_frames, self.sink_frames)

    def within(self, frames: int) -> RecallWindow:
        """The same policy with at most `frames`; it recalls the same share of them."""
        window = min(frames, self.window_frames)
        share = self.recall_frames * window // self.window_frames
        recall = max(0, min(share, window - self.sink_frames - 1))
        runs = min(self.runs, max(1, recall))
        return replace(self, window_frames=window, recall_frames=recall, runs=runs)

    def with_first(self) -> RecallWindow:
        """The same policy with a sink of one frame, unless it has a sink or no room for one."""
        if self.sink_frames or self.newest_frames < 2:
            return self
        return replace(self, sink_frames=1)


def archive_slots(policy: RecallWindow, length: int | None) -> int:
    """Latent frames to make room for in main memory in a rollout of `length`, None for no end.

    0 if nothing is ever recalled. An archive without bound or end grows beyond it.
    """
    if not policy.recall_frames:
        return 0
    leavers = UNBOUNDED_START
    if length is not None:
        leavers = max(0, length - policy.sink_frames - policy.newest_frames)
    return leavers if policy.archive_frames is None else min(leavers, policy.archive_frames)
