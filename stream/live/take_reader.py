"""Reads the pictures of a live address as JPEG files, run after run, each picture once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..preview.jpeg import unpack_files
from ..preview.take import Take

NewestTake = Callable[[], Take | None]


class TakeReader:
    """Begins at the newest chunk; a newer run takes the place of the one before.

    `newest` gives the newest take of the address. `max_waiting_s` is how far the reader may fall
    behind the run, in seconds of the video, before it goes on at the newest chunk.
    """

    def __init__(self, newest: NewestTake, max_waiting_s: float) -> None:
        self._newest, self._max_waiting_s = newest, max_waiting_s
        self._take: Take | None = None
        self._seq = 0  # the next chunk to open
        self._files: deque[tuple[int, bytes]] = deque()  # of the chunk that is open, numbered
        self.number = 0  # of the picture that was read last, in its run

    def follow(self) -> Take | None:
        """Go to a newer run that has a picture of its own; the newest take, if there is one."""
        take = self._newest()
        if take is None or take is self._take:
            return take
        is_first = self._take is None
        if len(take.chunks) > (0 if is_first else take.first_new):
            self._take = take
            self._go_to(len(take.chunks) - 1 if is_first else take.first_new)
        return take

    @property
    def take(self) -> Take | None:
        """The run whose pictures are read."""
        return self._take

    @property
    def waiting(self) -> int:
        """The number of pictures that are made and not read."""
        chunks = self._take.chunks[self._seq :] if self._take else ()
        return len(self._files) + sum(chunk.count for chunk in chunks)

    def next(self) -> bytes | None:
        """The next picture; None if there is none yet."""
        take = self._take
        if take is not None and self.waiting > self._max_waiting_s * take.shot.fps:
            self._go_to(len(take.chunks) - 1)
        if self.peek() is None:
            return None
        self.number, file = self._files.popleft()
        return file

    def peek(self) -> bytes | None:
        """The picture that `next` reads; None if there is none yet."""
        if self._take is not None and not self._files:
            self._open_chunk(self._take)
        return self._files[0][1] if self._files else None

    def _open_chunk(self, take: Take) -> None:
        """Open the next chunk that the preview's store still has."""
        while not self._files and (blob := take.blob(self._seq)) is not None:
            first, packed = take.chunks[self._seq].first_frame, blob.read()
            self._seq += 1
            if packed is not None:
                self._files.extend(enumerate(unpack_files(packed), first))

    def _go_to(self, seq: int) -> None:
        self._seq = seq
        self._files.clear()
