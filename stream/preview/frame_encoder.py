"""Encodes chunks of frames in order on a worker thread; the caller never waits.

When the encoder falls behind, pictures shrink, but none is dropped. Waiting frames have a budget.
When half of it is used, the sides of the next chunk are halved; in the next quarter they are halved
twice, in the next eighth three times. The budget is never exceeded by more than one chunk.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from ...errors import LongtakeError
from ..compute_threads import compute_alone
from ..lazy.frame_chunk import Pictures, to_pictures
from .jpeg import pack_frames

BUDGET_BYTES = 256 * 2**20  # float32 frames: four chunks of 12 at 832x480
BUDGET_CHUNKS = 4  # at least
MIN_SIDE = 16

Job = Callable[[], None]


class FrameEncoder:
    """Frames in, packed JPEG out. The next `put` raises an error; `on_error` gets it at once."""

    def __init__(
        self,
        on_error: Callable[[BaseException], None],
        *,
        encode: Callable[[Pictures], bytes] = pack_frames,
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        self._encode = encode
        self._on_error = on_error
        self._budget_bytes = budget_bytes
        self._error: BaseException | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._work, name="longtake preview", daemon=True)
        self._worker.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of frames that are not delivered yet."""
        return self._waiting_bytes

    def put(self, frames: Tensor, deliver: Callable[[bytes], None]) -> None:
        """Queue frames (n, 3, H, W) in [0, 1], which must not change afterwards. Returns at once.

        The worker thread calls `deliver` with the packed frames, in the order of `put`.
        """
        if self._error is not None:  # a new error: a raised one holds the callers, and so the run
            raise LongtakeError(failure_sentence(self._error)) from self._error
        budget = max(self._budget_bytes, BUDGET_CHUNKS * frames.nbytes)
        frames = halve(frames, halvings(self._waiting_bytes, budget))
        with self._lock:
            self._waiting_bytes += frames.nbytes
        self._jobs.put(lambda: self._encode_chunk(frames, deliver))

    def close(self, last: Job) -> None:
        """Run `last` after all queued frames, then end the thread. Returns at once."""
        self._jobs.put(last)
        self._jobs.put(None)

    def join(self) -> None:
        """Wait until the thread ends, after `close`."""
        self._worker.join()

    def _encode_chunk(self, frames: Tensor, deliver: Callable[[bytes], None]) -> None:
        try:
            if self._error is None:
                deliver(self._encode(to_pictures(frames)))
        finally:
            with self._lock:
                self._waiting_bytes -= frames.nbytes

    def _work(self) -> None:
        """Run jobs until the end; after a failure only empty the queue."""
        compute_alone()
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # the take outlives these pictures
                self._error = self._error or error
                self._on_error(error)
            del job  # before waiting for the next


def failure_sentence(error: BaseException) -> str:
    """What users are told where the frames cannot be encoded."""
    return f"The preview cannot encode frames ({error})."


def halvings(waiting: int, budget: int) -> int:
    """How often to halve the next chunk: k while less than 1 - 2^-(k+1) of the budget is used."""
    left, times = budget - waiting, 0
    while left << (times + 1) < budget and times < budget.bit_length():
        times += 1
    return times


def halve(frames: Tensor, times: int) -> Tensor:
    """Halve both sides of frames (n, 3, H, W) `times` times, but no side below `MIN_SIDE`."""
    height, width = frames.shape[2:]
    while times and min(height, width) >= 2 * MIN_SIDE:
        height, width, times = height // 2, width // 2, times - 1
    if (height, width) == frames.shape[2:]:
        return frames
    return functional.interpolate(frames, (height, width), mode="area")
