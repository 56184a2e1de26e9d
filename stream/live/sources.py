"""The broadcasts of all live addresses that somebody watches, each on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial

from ..preview.takes import Takes
from .broadcast import Broadcast
from .viewers import Viewer

logger = logging.getLogger("longtake")

MAX_VIEWERS = 32
MAX_LATE_S = 1.0  # a broadcast that is later drops the time that it lacks


class NotLive(Exception):
    """Nothing can be shown at an address; the message is one sentence."""


class TooManyViewers(NotLive):
    """The limit of viewers is reached."""


class LiveSources:
    """Starts a broadcast with its first viewer and ends it with its last."""

    def __init__(self, takes: Takes) -> None:
        self._takes = takes
        self._threads: dict[str, _BroadcastThread] = {}
        self._lock = threading.Lock()

    def join(self, token: str, viewer: Viewer) -> None:
        """Show the live address `token` to a viewer; NotLive if that is impossible."""
        with self._lock:
            take = self._takes.newest(token)
            if take is None:
                raise NotLive("Nothing is shown at this address; run the workflow first.")
            if sum(thread.count for thread in self._threads.values()) >= MAX_VIEWERS:
                raise TooManyViewers(f"{MAX_VIEWERS} viewers watch already; close one of them.")
            thread = self._threads.get(token)
            if thread is None or not thread.join_viewer(viewer):
                broadcast = Broadcast(partial(self._takes.newest, token), take.shot)
                broadcast.join(viewer)
                self._threads[token] = _BroadcastThread(broadcast)

    def leave(self, token: str, viewer: Viewer) -> None:
        """Show nothing more to a viewer."""
        with self._lock:
            thread = self._threads.get(token)
            if thread is not None and thread.leave(viewer):
                del self._threads[token]

    def close(self) -> None:
        """End all broadcasts and wait for their threads."""
        with self._lock:
            threads = list(self._threads.values())
            self._threads.clear()
        for thread in threads:
            thread.stop()


class _BroadcastThread:
    """Ticks a broadcast until it ends or nobody watches."""

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        self._stopping = threading.Event()
        self._ended = False
        self._lock = threading.Lock()  # so that nobody joins a broadcast that ends
        self._worker = threading.Thread(target=self._work, name="longtake live", daemon=True)
        self._worker.start()

    @property
    def count(self) -> int:
        """The number of viewers."""
        return len(self._broadcast.viewers)

    def join_viewer(self, viewer: Viewer) -> bool:
        """Add a viewer; False if the broadcast has ended."""
        with self._lock:
            if not self._ended:
                self._broadcast.join(viewer)
            return not self._ended

    def leave(self, viewer: Viewer) -> bool:
        """Remove a viewer; True if that was the last one, so that the broadcast ends."""
        self._broadcast.leave(viewer)
        with self._lock:
            self._ended = self._ended or not self.count
            if self._ended:
                self._stopping.set()
            return self._ended

    def stop(self) -> None:
        """End the broadcast and wait for its thread."""
        self._stopping.set()
        self._worker.join()

    def _work(self) -> None:
        try:
            self._tick_until_end()
        except Exception:
            logger.exception("The live picture has failed; its viewers are let go.")
        finally:
            with self._lock:
                self._ended = True
            self._broadcast.close()

    def _tick_until_end(self) -> None:
        due_at = time.monotonic()
        period_s = float(1 / self._broadcast.rate)
        while not self._stopping.wait(max(0.0, due_at - time.monotonic())):
            if not self._broadcast.tick(time.monotonic()):
                return
            due_at = max(due_at + period_s, time.monotonic() - MAX_LATE_S)
