"""The pictures of another shot, which is made as far as they are read.

They are named by the addresses of the other shot's chunks, so they need not exist to be named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.vae.latent_format import frame_count
from ...stream.lazy.frame_chunk import FrameChunk
from ..frames.decoded import HostFrames


class RolloutPictures:
    """Pictures (n, 3, H, W) of a shot; the newest ones that were read stay in memory."""

    def __init__(self, frames: HostFrames) -> None:
        if frames.frame_total is None:
            raise BadInput(
                "The shot to follow runs until it is stopped; give it a length, so that this "
                "shot's memory can be planned."
            )
        if frames.rollout.spec.live is not None:
            raise BadInput(
                "The shot to follow has a live input, whose pictures nobody knows before; use its "
                "saved video instead."
            )
        self.width, self.height, self.frame_total = frames.width, frames.height, frames.frame_total
        self._frames = frames
        self._threads = torch.get_num_threads()
        self._parts: deque[FrameChunk] = deque()
        self._reading: Iterator[FrameChunk] | None = None

    @property
    def digest(self) -> str:
        """The address of the last chunk, which those before it lead to."""
        return self._frames.planned_key(self._chunk_of(self.frame_total - 1))

    def names(self, latents: int) -> Sequence[str]:
        """A name for each latent frame that tells all pictures up to there."""
        chunks = (self._chunk_of(frame_count(index + 1) - 1) for index in range(latents))
        return [f"{self._frames.planned_key(chunk)} {index}" for index, chunk in enumerate(chunks)]

    def prepare(self, first: int, stop: int) -> None:
        """Have pictures `first` to `stop` in memory; BadInput where the other shot changed live.

        The other shot's models are loaded for this, so call it before those of this shot are.
        """
        while self._parts and _end(self._parts[0]) <= first:
            self._parts.popleft()
        self._make(first, stop)

    def _make(self, first: int, stop: int) -> None:
        """Add what is missing of pictures `first` to `stop` to those in memory."""
        is_before = bool(self._parts) and self._parts[0].first_frame > first
        if self._reading is None or is_before:
            self._parts.clear()
            self._reading = self._frames.chunks.read_from(self._chunk_of(first))
        while (_end(self._parts[-1]) if self._parts else first) < min(stop, self.frame_total):
            self._parts.append(self._next_chunk(self._reading))

    def release(self) -> None:
        """Stop reading the other shot: its next run must not be this one."""
        self._reading = None
        self._parts.clear()

    def open_reader(self, first: int) -> _Reader:
        """Read from picture number `first` on."""
        return _Reader(self, first)

    def read(self, first: int, stop: int) -> Tensor:
        """Pictures `first` to `stop`, which are made if that was not done before."""
        self._make(first, stop)
        start = self._parts[0].first_frame
        return torch.cat([part.frames for part in self._parts])[first - start : stop - start]

    def _next_chunk(self, reading: Iterator[FrameChunk]) -> FrameChunk:
        """Make the other shot's next chunk, with the threads that it has when it runs alone."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            chunk = next(reading, None)
        finally:
            torch.set_num_threads(threads)
        if chunk is None:
            self._reading = None
            raise BadInput(
                "The shot to follow is a dry run, which makes no pictures; switch off dry run at "
                "its sampler."
                if self._frames.plan_only
                else "The shot to follow was stopped; run again to make the rest of it."
            )
        if self._frames.content_key(chunk.index) != self._frames.planned_key(chunk.index):
            raise BadInput(
                "The shot to follow was changed while it ran; keep the change in its workflow "
                "and run again."
            )
        return chunk

    def _chunk_of(self, picture: int) -> int:
        """The chunk of the other shot that holds a picture."""
        rollout, index = self._frames.rollout, 0
        last = (rollout.chunk_count or 1) - 1
        while index < last and frame_count(rollout.span(index + 1).first) <= picture:
            index += 1
        return index


class _Reader:
    def __init__(self, pictures: RolloutPictures, first: int) -> None:
        self._pictures, self._number = pictures, first

    def read(self, count: int) -> Tensor | None:
        """The next pictures; None after the last."""
        stop = min(self._number + count, self._pictures.frame_total)
        if stop <= self._number:
            return None
        first, self._number = self._number, stop
        return self._pictures.read(first, stop)

    def close(self) -> None:
        """Do nothing: the pictures belong to the other shot."""


def _end(chunk: FrameChunk) -> int:
    """The number of the picture after a chunk."""
    return chunk.first_frame + len(chunk.frames)
