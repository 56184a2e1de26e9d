"""Passes a live address on to a streaming server, or to programs that take NDI.

RTMP and RTMPS carry FLV, SRT and UDP carry MPEG-TS: the packets are those of the live address, and
nothing is encoded again. NDI has a codec of its own.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from ...errors import BadInput, LongtakeError
from ..ndi.library import SCHEME as NDI
from ..url import Url
from .outage import Outage
from .sender import ALIVE, CONNECTED, ENDED, FAILED, OPENED, REFUSED, TIMEOUT_S, Way, send
from .target import CONTAINERS, Target

PATIENCE_S = TIMEOUT_S + 5  # the source's own limit, and the start of a process
LOOK_EVERY_S = 0.2
CLOSING_S = 2.0
RETRY_S = 2.0
ENDINGS = (".mp4", ".ts")
PROCESSES = multiprocessing.get_context("spawn")


class Relay:
    """From the live address `source` to `target`; both are checked at once, opened by `run`.

    BadInput if the source is no live address with H.264, or nothing can be sent to the target.
    No sentence shows either: one of them may hold a key, and they may be the wrong way round.
    """

    def __init__(self, source: str, target: str, tell: Callable[[str], None]) -> None:
        self._way = Way(_checked(source), Target.parse(target))
        self._outage = Outage(tell)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Pass packets on until `stop`; connect again where a side ends, fails or falls silent.

        BadInput if PyAV, or NDI's library, cannot send to such a target at all.
        """
        while not self._stopping.is_set():
            try:
                with _sender(self._way) as child:
                    self._listen(child)
            except LongtakeError as failure:
                if isinstance(failure, BadInput):
                    raise
                self._outage.fail(str(failure))
            self._stopping.wait(RETRY_S)

    def stop(self) -> None:
        """Make `run` return soon; any thread may call this."""
        self._stopping.set()

    def _listen(self, child: Connection) -> None:
        """Hear what the sender tells until it ends; LongtakeError where it fails or is silent."""
        silent, last_word = "The source", time.monotonic()
        while not self._stopping.is_set():
            if not child.poll(LOOK_EVERY_S):
                if time.monotonic() - last_word > PATIENCE_S:
                    raise LongtakeError(f"{silent} failed (no answer for {PATIENCE_S:.0f} s).")
                continue
            kind, sentence = _word_of(child)
            last_word = time.monotonic()
            if kind == OPENED:
                silent = "The target"
            elif kind == CONNECTED:
                self._outage.connect(sentence)
            elif kind == ALIVE:
                self._outage.go_on()
            elif kind == ENDED:
                raise LongtakeError("The source has ended.")
            elif kind == FAILED:
                raise LongtakeError(sentence)
            elif kind == REFUSED:
                raise BadInput(sentence)


def _checked(source: str) -> str:
    """A live address whose packets can be passed on; BadInput if it is none."""
    try:
        url = Url.parse(source)
    except ValueError:  # a bracket without its end
        url = Url.parse("")
    if url.scheme in (*CONTAINERS, NDI):
        raise BadInput("The target comes second: give the live address first (Use in OBS).")
    if url.path.endswith(".mjpeg"):
        raise BadInput("live.mjpeg cannot be passed on; give live.mp4 or live.ts instead.")
    if url.scheme not in ("http", "https") or not url.path.endswith(ENDINGS):
        raise BadInput(
            "The first address is no live address, which begins with http:// or https:// and ends "
            "with live.mp4 or live.ts; copy it from the player (Use in OBS)."
        )
    return url.text


@contextmanager
def _sender(way: Way) -> Iterator[Connection]:
    """A process that sends; at the end it may close its connection, and is ended if it does not."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=send, args=(way, theirs), daemon=True)
    _start_deaf(process)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(CLOSING_S)
        process.kill()
        process.join()


def _start_deaf(process: SpawnProcess) -> None:
    """Start a process that Ctrl-C, which every program of a terminal gets, does not reach.

    Else it would end with Python's own traceback before its first line runs.
    """
    if sys.platform == "win32":
        process.start()
        return
    resource_tracker.ensure_running()  # which lets Ctrl-C through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _word_of(child: Connection) -> tuple[str, str]:
    try:
        kind, sentence = child.recv()
    except (EOFError, OSError):
        return FAILED, "The sender has ended by itself."
    return kind, sentence
