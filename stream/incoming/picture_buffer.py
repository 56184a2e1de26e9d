"""The newest pictures of a live source: what comes while a chunk is in the making makes room."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

SLACK_FRAMES = 2  # a run may be so far behind before it leaves pictures out
ROUNDING_S = 1e-3  # clocks of containers count in milliseconds

T = TypeVar("T")


class PictureBuffer(Generic[T]):
    """Pictures with their times in seconds, at most `most_frames` frames of the shot back.

    `fps` are the frames of the shot a second. One thread adds and another one takes.
    """

    def __init__(self, fps: float, most_frames: int) -> None:
        self._frame_s = 1 / fps
        self._span_s = (most_frames + SLACK_FRAMES + 1) / fps
        self._pictures: deque[tuple[float, T]] = deque()
        self._until: float | None = None  # the time of the newest picture that was taken
        self._lock = threading.Lock()
        self.dropped = 0

    def add(self, at: float, picture: T) -> None:
        """Add a picture; one that is not later than the newest takes its place.

        A fast source sends more than a shot reads, and a picture in 4K takes 16 MB. So a picture
        less than half a frame after the one before it is dropped once the next one has come.
        """
        with self._lock:
            while self._pictures and self._pictures[-1][0] >= at:
                self._pictures.pop()
            if self._is_dense():
                self._pictures.pop()
            self._pictures.append((at, picture))
            oldest = at - self._span_s
            while len(self._pictures) > 1 and self._pictures[1][0] <= oldest:
                self._pictures.popleft()

    def is_ready(self, count: int) -> bool:
        """Whether there are `count` frames that no chunk has taken."""
        with self._lock:
            rounding = ROUNDING_S / self._frame_s
            return bool(self._pictures) and self._new_frames() >= count - rounding

    def take(self, count: int, before: int = 0) -> list[T]:
        """The pictures of the next `count` frames, after those of `before` earlier frames.

        They end at the newest picture. A run that is at most `SLACK_FRAMES` behind goes on where it
        stopped; otherwise it leaves out what it missed, which `dropped` counts in frames. None are
        left where the source was lost since `is_ready`.
        """
        with self._lock:
            if not self._pictures:
                return []
            behind = self._new_frames() - count
            late = 0.0 if self._until is None or behind > SLACK_FRAMES else max(0.0, behind)
            if self._until is not None and behind > SLACK_FRAMES:
                self.dropped += round(behind)
            end = self._pictures[-1][0] - late * self._frame_s
            self._until = end
            times = [end - back * self._frame_s for back in reversed(range(count + before))]
            return [self._at(time + ROUNDING_S) for time in times]

    def forget(self) -> None:
        """Drop what a lost source has sent, so that nothing old is taken for new.

        The next pictures begin anew: the time without a source had no frames to leave out, and the
        clock of the source that is back may be behind the one before.
        """
        with self._lock:
            self._pictures.clear()
            self._until = None

    def _is_dense(self) -> bool:
        """Whether the newest two pictures are less than half a frame of the shot apart."""
        if len(self._pictures) < 2:
            return False
        gap_s = self._pictures[-1][0] - self._pictures[-2][0]
        return gap_s < self._frame_s / 2 - ROUNDING_S

    def _new_frames(self) -> float:
        """How many frames of the shot came since the last one that was taken."""
        newest, oldest = self._pictures[-1][0], self._pictures[0][0]
        if self._until is None:
            return (newest - oldest) / self._frame_s + 1
        return (newest - self._until) / self._frame_s

    def _at(self, time: float) -> T:
        """The newest picture at a time, or the oldest one."""
        past = [picture for at, picture in self._pictures if at <= time]
        return past[-1] if past else self._pictures[0][1]
