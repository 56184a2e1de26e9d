"""Ctrl-C in two stages: the first asks the run to stop after its step, the second stops at once.

SIGTERM, which schedulers and service managers send, counts as the first.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STDERR = 2
INTERRUPTED, TERMINATED = 130, 143
SystemExitCode = str | int | None
STOPPING = b"\nStopping after this step; press Ctrl-C again to stop at once.\n"
NOT_BEGUN = b"\nInterrupted before anything was begun.\n"


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End the program while it loads: libraries would make a traceback of a KeyboardInterrupt."""
    _tell(NOT_BEGUN)
    os._exit(INTERRUPTED)


def raise_from_now_on() -> None:
    """Let SIGINT raise KeyboardInterrupt in place of `end_at_once`."""
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Termination:
    """Answers SIGTERM as the handler of SIGINT does, whatever that is at the time.

    Only the first counts: whoever signals a whole group, as Slurm does, may do so twice.
    """

    def __init__(self) -> None:
        self._is_received = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Stop at once while the program loads; else pass the signal on as SIGINT."""
        if signal.getsignal(signal.SIGINT) is end_at_once:
            _tell(NOT_BEGUN)
            os._exit(TERMINATED)
        if not self._is_received:
            self._is_received = True
            signal.raise_signal(signal.SIGINT)

    def exit_code(self, code: SystemExitCode) -> SystemExitCode:
        """Return what a program ends with whose command ended with `code`."""
        return TERMINATED if self._is_received and code == INTERRUPTED else code


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
        _tell(STOPPING)
        ask()

    previous = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _tell(text: bytes) -> None:
    """Write unbuffered: the interrupted code may be printing."""
    with suppress(OSError):  # a full disk or a closed terminal must not stop the stopping
        os.write(STDERR, text)
