"""Two videos as one, joined over an overlap that hides the seam."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .frame_chunk import FrameChunk
from .joined import ChunkProducer, Want

Method = Literal["cross-fade", "best cut"]
DISPLAY_GAMMA = 2.2


@dataclass(frozen=True, slots=True)
class Splice:
    """The last `overlap` pictures of the first video meet the first ones of the second.

    `cross-fade` mixes them, in linear light, so that a fade does not darken; `best cut` goes from
    the one to the other where their pictures are most alike. An overlap of 0 is a plain cut.
    """

    overlap: int
    method: Method = "cross-fade"

    def made(self) -> ChunkProducer[FrameChunk, FrameChunk]:
        """The recipe: the end of the first video waits until it is known to be the end."""
        index, at = 0, 0
        last: FrameChunk | None = None
        tail: Tensor | None = None  # pictures of the first video that are held back
        while (chunk := (yield Want(0))) is not None:
            tail, last = _after(tail, chunk.frames), chunk
            ready = len(tail) - self.overlap
            if ready > 0:
                yield replace(chunk, index=index, first_frame=at, frames=tail[:ready])
                tail, index, at = tail[ready:], index + 1, at + ready
        head: Tensor | None = None
        while (chunk := (yield Want(1))) is not None:
            head, last = _after(head, chunk.frames), chunk
            if tail is not None and len(head) < len(tail):
                continue
            frames = head if tail is None else self.joined(tail, head)
            yield replace(chunk, index=index, first_frame=at, frames=frames)
            head, tail, index, at = None, None, index + 1, at + len(frames)
        if last is not None and tail is not None and len(tail):  # the second video was too short
            frames = tail if head is None else self.short(tail, head)
            yield replace(last, index=index, first_frame=at, frames=frames)

    def short(self, tail: Tensor, head: Tensor) -> Tensor:
        """All of `tail` (m, 3, H, W), its end joined with all of `head` (n, 3, H, W), n < m."""
        apart = len(tail) - len(head)
        return torch.cat([tail[:apart], self.joined(tail[apart:], head)])

    def joined(self, tail: Tensor, head: Tensor) -> Tensor:
        """`head` (n, 3, H, W), its first pictures joined with `tail` (m, 3, H, W), m <= n."""
        count = len(tail)
        if count == 0:
            return head
        if self.method == "best cut":
            place = best_cut(tail, head[:count])
            return torch.cat([tail[:place], head[place:]])
        share = (torch.arange(count, dtype=tail.dtype) + 1) / (count + 1)
        faded = _mixed(tail, head[:count], share.view(-1, 1, 1, 1).to(tail.device))
        return torch.cat([faded, head[count:]])


def _after(held: Tensor | None, frames: Tensor) -> Tensor:
    return frames if held is None else torch.cat([held, frames])


def best_cut(tail: Tensor, head: Tensor) -> int:
    """How many pictures of `tail` (m, 3, H, W) come before those of `head` (m, 3, H, W) take over:
    where the step between the two is smallest.
    """
    steps = (tail[:-1] - head[1:]).square().mean((1, 2, 3))  # from tail[i] to head[i + 1]
    return int(steps.argmin()) + 1 if len(steps) else 0


def _mixed(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Pictures in [0, 1] of which `share` (n, 1, 1, 1) is the other's light."""
    light = one.clamp(min=0) ** DISPLAY_GAMMA * (1 - share)
    light = light + other.clamp(min=0) ** DISPLAY_GAMMA * share
    return light ** (1 / DISPLAY_GAMMA)
