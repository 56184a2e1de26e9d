"""A store as one process sees it: whether it answers, and what is known of its contents."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .store import Store, StoreLost

logger = logging.getLogger("longtake")

T = TypeVar("T")
PAUSE_S = 10.0
READERS = 8


class Connection:
    """Asks a store. One that fails is left alone for `pause_s`, so that a run need not wait.

    `known` are names of contents that it has, `damaged` names of contents that nobody can use.
    """

    def __init__(self, store: Store, pause_s: float = PAUSE_S) -> None:
        self.store, self._pause_s = store, pause_s
        self.known, self.damaged = set[str](), set[str]()
        self._lost_at: float | None = None
        self._lock = threading.Lock()

    @property
    def is_resting(self) -> bool:
        """Whether the store has failed just now."""
        with self._lock:
            return self._lost_at is not None and time.monotonic() < self._lost_at + self._pause_s

    def has(self, name: str) -> bool:
        """Whether the store has a usable content; False while it does not answer."""
        if name in self.damaged:
            return False
        if name not in self.known and self.ask(lambda store: store.has(name), False):
            self.known.add(name)
        return name in self.known

    def read(self, name: str) -> bytes | None:
        """A content; None if there is none, or while the store does not answer."""
        return None if name in self.damaged else self.ask(lambda store: store.read(name), None)

    def read_folder(
        self, folder: str, is_wanted: Callable[[str], bool]
    ) -> Mapping[str, tuple[bytes, float]]:
        """Contents of a folder by name, and when each was written in seconds since the epoch."""
        nothing: Mapping[str, float] = {}
        times = self.ask(lambda store: store.times(folder), nothing)
        names = [name for name in times if is_wanted(name)]
        with ThreadPoolExecutor(READERS) as readers:
            contents = list(readers.map(self.read, names))
        pairs = zip(names, contents, strict=True)
        return {name: (content, times[name]) for name, content in pairs if content is not None}

    def ask(self, question: Callable[[Store], T], otherwise: T) -> T:
        """The store's answer, or `otherwise` where it gives none."""
        if self.is_resting:
            return otherwise
        try:
            answer = question(self.store)
        except StoreLost as error:
            self.note_lost(error)
            return otherwise
        self.note_answer()
        return answer

    def note_lost(self, error: StoreLost) -> None:
        """Leave the store alone for a while, and say so once."""
        with self._lock:
            before, self._lost_at = self._lost_at, time.monotonic()
        if before is None:
            logger.warning(
                "%s The run goes on: its chunks are on this machine, and are sent when the store "
                "answers.", error,
            )  # fmt: skip

    def note_answer(self) -> None:
        """Note that the store answers, and say so if it did not."""
        with self._lock:
            before, self._lost_at = self._lost_at, None
        if before is not None:
            logger.warning("The store %s answers again.", self.store.title)
