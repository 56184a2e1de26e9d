"""What one process sends to a store, behind its run, and the fence of a batch's lease.

Files go one after another, in order. A store that does not answer stops no run: the files are in
the local folder, and go when it answers, or when the next process meets them.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...errors import StorageError
from .connection import Connection
from .store import Store, StoreLost
from .work_thread import WorkThread

logger = logging.getLogger("longtake")

LEASES = "leases"
GROWTH = 1.1  # a growing file is sent when it is larger by this factor, so that its sum stays small
Check = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file on its way to the store. `check` raises ValueError for a damaged content.

    A file without a `check` grows, and is this process's alone: it replaces what is in the store. A
    file that `is_old` may be in the store already.
    """

    name: str
    path: Path
    check: Check | None = None
    is_old: bool = False


@dataclass(frozen=True, slots=True)
class RowLease:
    """The right to run a row. Leases of a `row` have rising numbers, and the highest one holds."""

    row: str
    number: int

    def mark(self, number: int) -> str:
        """The name whose existence says that lease `number` of the row has ended."""
        return f"{LEASES}/{self.row}.{number}"


class LeaseOver(Exception):
    """The store has the mark of a higher lease of the row."""


class Sharing:
    """Sends files to a store on a thread of its own. `writer` names this process there."""

    def __init__(self, store: Store, **options: float) -> None:
        self.connection = Connection(store, **options)
        self.writer = uuid.uuid4().hex[:12]
        self._waiting = deque[Outgoing]()
        self._grown: dict[str, Outgoing] = {}
        self._sizes: dict[str, int] = {}  # of growing files, when last told to go
        self._thread = WorkThread("longtake store")
        self._lease: RowLease | None = None
        self._marks = deque[str]()
        self._over: str | None = None
        self._told = 0  # chunks of which the user knows that they wait

    def send(self, outgoing: Outgoing) -> None:
        """Send a file, later; StorageError if the row's lease has ended."""
        self._check_lease()
        if outgoing.check is None:
            size = outgoing.path.stat().st_size
            if size < GROWTH * self._sizes.get(outgoing.name, 0):
                self._grown[outgoing.name] = outgoing
                return
            self._sizes[outgoing.name] = size
        self._grown.pop(outgoing.name, None)
        self._waiting.append(outgoing)
        self._start()

    def flush(self) -> None:
        """Send what has grown a little too, without waiting for it."""
        self._waiting.extend(self._grown.values())
        self._grown.clear()
        self._start()

    def settle(self) -> None:
        """Wait until all is sent, or until the store fails once more; StorageError as in `send`."""
        self._drain()
        self._check_lease()

    def hold(self, lease: RowLease) -> None:
        """Send under a lease from now on: all lower leases of its row end."""
        self._lease, self._over = lease, None
        self._marks.extend(lease.mark(number) for number in range(1, lease.number))
        if self._marks:
            self._thread.start(partial(self._send_waiting, insist=True)).result()

    def close(self) -> None:
        """Send what waits, and end the thread."""
        try:
            self._drain()
        finally:
            self._thread.close()

    def _drain(self) -> None:
        self.flush()
        self._thread.start(partial(self._send_waiting, insist=True)).result()
        chunks = sum(outgoing.check is not None for outgoing in self._waiting)
        is_news, self._told = chunks != self._told, chunks
        if chunks and is_news:
            logger.warning(
                "%d chunks are not in the store %s yet. They are safe in %s: run again with the "
                "same --store to send them.",
                chunks, self.connection.store.title, self._waiting[0].path.parent,
            )  # fmt: skip

    def _start(self) -> None:
        with suppress(RuntimeError):  # closed: the next process that meets the files sends them
            self._thread.start(self._send_waiting)

    def _check_lease(self) -> None:
        if self._over is not None:
            raise StorageError(self._over)

    def _send_waiting(self, *, insist: bool = False) -> None:
        """Send in order until the store fails; only then is a file kept for later."""
        while (self._marks or self._waiting) and (insist or not self.connection.is_resting):
            try:
                self._send_next()
            except StoreLost as error:
                self.connection.note_lost(error)
                return
            except LeaseOver:
                self._waiting.clear()
                return
            self.connection.note_answer()

    def _send_next(self) -> None:
        if self._marks:
            self.connection.store.create(self._marks[0], b"This lease has ended.\n")
            self._marks.popleft()
            return
        self._check_fence()
        try:
            with suppress(FileNotFoundError):  # removed meanwhile, to make room
                self._send(self._waiting[0])
        except OSError as error:
            logger.warning("%s is not sent (%s).", self._waiting[0].path, error.strerror)
        self._waiting.popleft()

    def _check_fence(self) -> None:
        """LeaseOver if another worker has the row, though this process was not told."""
        lease, store = self._lease, self.connection.store
        if lease is not None and store.has(lease.mark(lease.number)):
            self._over = (
                f"Lease {lease.number} of this row has ended: another worker makes the shot now. "
                f"What was finished before is in the store {store.title}."
            )
            raise LeaseOver

    def _send(self, outgoing: Outgoing) -> None:
        store, name, content = self.connection.store, outgoing.name, outgoing.path.read_bytes()
        if outgoing.check is None:
            store.write(name, content)
        elif not (outgoing.is_old and store.has(name)) and _is_sound(content, outgoing.check):
            if not store.create(name, content):
                self._replace_damaged(outgoing, content)
            self.connection.damaged.discard(name)

    def _replace_damaged(self, outgoing: Outgoing, content: bytes) -> None:
        """The first of two equal chunks stays, unless it is damaged."""
        store = self.connection.store
        theirs = store.read(outgoing.name)
        if theirs is None or not _is_sound(theirs, outgoing.check):
            store.write(outgoing.name, content)


def _is_sound(content: bytes, check: Check | None) -> bool:
    try:
        if check is not None:
            check(content)
    except ValueError:
        return False
    return True
