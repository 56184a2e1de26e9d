"""Ctrl-C in two stages: the first asks the run to stop after its step, the second stops at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STDERR = 2
INTERRUPTED = 130
STOPPING = b"\nStopping after this step; press Ctrl-C again to stop at once.\n"
NOT_BEGUN = b"\nInterrupted before anything was begun.\n"


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End the program while it loads: libraries would make a traceback of a KeyboardInterrupt."""
    os.write(STDERR, NOT_BEGUN)
    os._exit(INTERRUPTED)


def raise_from_now_on() -> None:
    """Let SIGINT raise KeyboardInterrupt in place of `end_at_once`."""
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
