"""Joins two videos over an overlap that hides the seam."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .frame_chunk import FrameChunk
from .joined import JoinSteps, NextChunk

Method = Literal["cross-fade", "best cut"]
DISPLAY_GAMMA = 2.2


@dataclass(frozen=True, slots=True)
class Splice:
    """Overlap the last `overlap` pictures of the first video with the first ones of the second.

    `cross-fade` mixes them in linear light, so that the fade does not darken. `best cut` switches
    where the pictures are most alike. An overlap of 0 is a plain cut.
    """

    overlap: int
    method: Method = "cross-fade"

    def join(self, on_second: Callable[[], None]) -> JoinSteps[FrameChunk, FrameChunk]:
        """The steps of a `JoinedStream`. Holds the first video's last pictures until it ends.

        `on_second` is called when the first video has ended with pictures, before the second one
        is asked for.
        """
        index, at = 0, 0
        last: FrameChunk | None = None
        tail: Tensor | None = None  # the first video's pictures that are held back
        while (chunk := (yield NextChunk(0))) is not None:
            tail, last = _append(tail, chunk.frames), chunk
            ready = len(tail) - self.overlap
            if ready > 0:
                yield replace(chunk, index=index, first_frame=at, frames=tail[:ready])
                tail, index, at = tail[ready:], index + 1, at + ready
        if last is not None:
            on_second()
        head: Tensor | None = None
        while (chunk := (yield NextChunk(1))) is not None:
            head, last = _append(head, chunk.frames), chunk
            if tail is not None and len(head) < len(tail):
                continue
            frames = head if tail is None else self.blend(tail, head)
            yield replace(chunk, index=index, first_frame=at, frames=frames)
            head, tail, index, at = None, None, index + 1, at + len(frames)
        if last is not None and tail is not None and len(tail):  # the second video was too short
            frames = tail if head is None else self.blend_short(tail, head)
            yield replace(last, index=index, first_frame=at, frames=frames)

    def join_ends(self) -> JoinSteps[FrameChunk, FrameChunk]:
        """The steps that join one video's end to its own beginning, so that it repeats seamlessly.

        The first `overlap` pictures are held back and blended into the last ones. Of a video with
        fewer than twice as many, half are.
        """
        index, at = 0, 0
        last: FrameChunk | None = None
        both: Tensor | None = None  # the first pictures and the newest ones
        while (chunk := (yield NextChunk(0))) is not None:
            both, last = _append(both, chunk.frames), chunk
            ready = len(both) - 2 * self.overlap
            if ready > 0:
                head, between, tail = both.split([self.overlap, ready, self.overlap])
                yield replace(chunk, index=index, first_frame=at, frames=between)
                both, index, at = torch.cat([head, tail]), index + 1, at + ready
        if last is not None and both is not None:
            shared = min(self.overlap, len(both) // 2)
            head, between, tail = both.split([shared, len(both) - 2 * shared, shared])
            frames = torch.cat([between, self.blend(tail, head)])
            yield replace(last, index=index, first_frame=at, frames=frames)

    def blend_short(self, tail: Tensor, head: Tensor) -> Tensor:
        """`tail` (m, 3, H, W) with its end blended into all of `head` (n, 3, H, W), n < m."""
        untouched = len(tail) - len(head)
        return torch.cat([tail[:untouched], self.blend(tail[untouched:], head)])

    def blend(self, tail: Tensor, head: Tensor) -> Tensor:
        """`head` (n, 3, H, W) with its first pictures blended with `tail` (m, 3, H, W), m <= n."""
        count = len(tail)
        if count == 0:
            return head
        if self.method == "best cut":
            place = best_cut(tail, head[:count])
            return torch.cat([tail[:place], head[place:]])
        share = (torch.arange(count, dtype=tail.dtype) + 1) / (count + 1)
        faded = _mix(tail, head[:count], share.view(-1, 1, 1, 1).to(tail.device))
        return torch.cat([faded, head[count:]])


def _append(before: Tensor | None, frames: Tensor) -> Tensor:
    return frames if before is None else torch.cat([before, frames])


def best_cut(tail: Tensor, head: Tensor) -> int:
    """The number of pictures of `tail` (m, 3, H, W) before the cut to `head` (m, 3, H, W).

    The cut is where the step from one to the other is smallest.
    """
    steps = (tail[:-1] - head[1:]).square().mean((1, 2, 3))  # from tail[i] to head[i + 1]
    return int(steps.argmin()) + 1 if len(steps) else 0


def _mix(before: Tensor, after: Tensor, share: Tensor) -> Tensor:
    """Mix pictures in [0, 1] in linear light; `share` (n, 1, 1, 1) is the share of `after`."""
    light = before.clamp(min=0) ** DISPLAY_GAMMA * (1 - share)
    light = light + after.clamp(min=0) ** DISPLAY_GAMMA * share
    return light ** (1 / DISPLAY_GAMMA)
