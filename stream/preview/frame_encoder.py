"""Encodes chunks of frames on a thread of its own, in order, for a caller that never waits.

When it falls behind, pictures get smaller; none is left out. What waits has a room: when half of it
is full, the sides of the next chunk are halved, in the next quarter twice, in the next eighth three
times. So the room is never exceeded by more than one chunk, down to pictures too small to count.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from ..lazy.frame_chunk import Pictures, to_pictures
from .jpeg import pack_frames

ROOM_BYTES = 256 * 2**20  # of frames in float32: four chunks of 12 at 832x480
ROOM_CHUNKS = 4  # but at least for so many
MIN_SIDE = 16

Job = Callable[[], None]


class FrameEncoder:
    """Frames in, packed JPEG out. Errors surface at the next `put`, and in `on_error` at once."""

    def __init__(
        self,
        on_error: Callable[[BaseException], None],
        *,
        encode: Callable[[Pictures], bytes] = pack_frames,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        self._encode = encode
        self._on_error = on_error
        self._room_bytes = room_bytes
        self._error: BaseException | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._work, name="longtake preview", daemon=True)
        self._worker.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of frames handed over and not delivered yet."""
        return self._waiting_bytes

    def put(self, frames: Tensor, deliver: Callable[[bytes], None]) -> None:
        """Encode frames (n, 3, H, W) in [0, 1], not to be changed afterwards, then call `deliver`.

        Returns at once; `deliver` is called on the worker's thread, in the order of `put`.
        """
        if self._error is not None:
            raise self._error
        room = max(self._room_bytes, ROOM_CHUNKS * frames.nbytes)
        frames = halved(frames, halvings(self._waiting_bytes, room))
        with self._lock:
            self._waiting_bytes += frames.nbytes
        self._jobs.put(lambda: self._encode_one(frames, deliver))

    def close(self, last: Job) -> None:
        """Do `last` after everything handed over, then end the thread; does not wait for it."""
        self._jobs.put(last)
        self._jobs.put(None)

    def join(self) -> None:
        """Wait for the end of the thread, after `close`."""
        self._worker.join()

    def _encode_one(self, frames: Tensor, deliver: Callable[[bytes], None]) -> None:
        try:
            if self._error is None:
                deliver(self._encode(to_pictures(frames)))
        finally:
            with self._lock:
                self._waiting_bytes -= frames.nbytes

    def _work(self) -> None:
        """After a failure only empty the queue."""
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:
                self._error = self._error or error
                self._on_error(error)
            del job  # before waiting for the next


def halvings(waiting: int, room: int) -> int:
    """How often to halve the next chunk: k while less than 1 - 2^-(k+1) of the room is taken."""
    left, times = room - waiting, 0
    while left << (times + 1) < room and times < room.bit_length():
        times += 1
    return times


def halved(frames: Tensor, times: int) -> Tensor:
    """Frames (n, 3, H, W) with both sides halved so many times, no side below `MIN_SIDE`."""
    height, width = frames.shape[2:]
    while times and min(height, width) >= 2 * MIN_SIDE:
        height, width, times = height // 2, width // 2, times - 1
    if (height, width) == frames.shape[2:]:
        return frames
    return functional.interpolate(frames, (height, width), mode="area")
