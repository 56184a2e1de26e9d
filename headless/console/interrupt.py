"""Ctrl-C in two stages: the first asks the run to stop after its step, the second stops at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STDERR = 2
STOPPING = b"\nStopping after this step; press Ctrl-C again to stop at once.\n"


@contextmanager
def two_stage_interrupt(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` on the first SIGINT in the block; raise KeyboardInterrupt on the second.

    Only the main thread can handle signals; in any other thread the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(STDERR, STOPPING)  # unbuffered: the interrupted code may be printing
        ask()

    previous = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
