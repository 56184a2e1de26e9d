"""The rows of a batch, each leased to one worker for a time.

A worker renews its lease while the row runs. A lease that is not renewed ends, and the next worker
takes the row over under a new lease, whose number is higher. Whatever comes under the old lease
afterwards is refused (a fencing token: Kleppmann, "How to do distributed locking", 2016).

There is neither a clock nor a network here: times are seconds that the caller counts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..batch.record import DONE, FAILED, QUEUED, WAITING, Record, Records, SavedFile
from ..batch.row import Row
from .second_tries import SecondTries

MAX_LOSSES = 6
"""A row fails after so many. Where one worker in twenty dies in each row, one row in 60 million is
lost so often by chance.
"""


@dataclass(slots=True)
class Lease:
    """The right of one worker to run a row until a time. A row's leases have rising numbers.

    `row_id` is an id of the row that no other batch has.
    """

    id: str
    row: Row
    row_id: str
    number: int
    worker: str
    until: float


@dataclass(frozen=True, slots=True)
class Ending:
    """How a row ended at its worker: in `seconds`, with files and a report, or with an error."""

    seconds: float
    files: tuple[SavedFile, ...] = ()
    report: tuple[tuple[str, object], ...] = ()
    error: str | None = None


class LeaseQueue:
    """The unfinished rows, waiting or leased for `seconds`; records hold every change.

    Rows that an earlier driver had leased are leased still: their workers go on and renew.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        records: Records,
        seconds: float,
        now: float,
        on_end: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self.seconds = seconds
        self._records = records
        self._on_end = on_end
        self._tries = SecondTries(seconds)
        self._waiting: deque[Row] = deque()
        self._leases: OrderedDict[str, Lease] = OrderedDict()  # the next to end comes first
        for row in rows:
            if row.record.state == QUEUED and row.record.server:
                self._add(row, now)
            elif row.record.state not in (DONE, FAILED):
                self._waiting.append(row)

    @property
    def unfinished(self) -> int:
        """Number of rows that are neither done nor failed."""
        return len(self._waiting) + len(self._leases)

    def get(self, lease_id: str) -> Lease | None:
        """Return a lease that has not ended."""
        return self._leases.get(lease_id)

    def take(self, worker: str, now: float) -> Lease | None:
        """Lease the next row to a worker; return None while no row waits that it may run.

        Only `expire` ends leases, so that its caller hears of each. The row waits on if the disk
        refuses its record (StorageError).
        """
        self._tries.hear(worker, now)
        while (row := self._next(worker, now)) is not None:
            if row.record.losses < MAX_LOSSES:
                number = row.record.attempt + 1  # on disk first: no number is given twice
                self._change(row.record, attempt=number, server=worker, state=QUEUED)
                self._waiting.remove(row)
                return self._add(row, now)
            self._close(row, Ending(0, error=f"lost with its worker {MAX_LOSSES} times"))
            self._waiting.remove(row)
        return None

    def renew(self, lease_id: str, now: float) -> bool:
        """Prolong a lease; return False if its time is over."""
        lease = self._leases.get(lease_id)
        if lease is None or lease.until <= now:
            return False
        self._tries.hear(lease.worker, now)
        lease.until = now + self.seconds
        self._leases.move_to_end(lease_id)
        return True

    def end(self, lease_id: str, ending: Ending, now: float) -> bool:
        """Record how a row ended; return False if the lease has ended before.

        A row that failed waits for another worker, if there is one and it did not fail before. The
        lease stays if the disk refuses the record (StorageError).
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            return False
        record = lease.row.record
        if ending.error and self._tries.note_failure(record.number, lease.worker, now):
            error, seconds = ending.error, ending.seconds
            self._change(record, state=WAITING, server=None, error=error, seconds=seconds)
            self._waiting.append(lease.row)
        else:
            self._close(lease.row, ending)
        del self._leases[lease_id]
        return True

    def release(self, lease_id: str) -> None:
        """Give a row back unfinished, to be taken next; nothing happens if the lease has ended.

        On disk too: a cluster may stop the driver as well, and the next one shall not wait for the
        lease. The lease stays, and ends by itself, if the disk refuses the record (StorageError).
        """
        lease = self._leases.get(lease_id)
        if lease is not None:
            self._tries.leave(lease.worker)
            self._change(lease.row.record, server=None, state=WAITING)
            del self._leases[lease_id]
            self._waiting.appendleft(lease.row)

    def expire(self, now: float) -> list[Lease]:
        """End the leases whose time is over, and return them."""
        ended = []
        while self._leases and (lease := next(iter(self._leases.values()))).until <= now:
            del self._leases[lease.id]
            lease.row.record.losses += 1
            self._give_back(lease)
            ended.append(lease)
        return ended

    def _next(self, worker: str, now: float) -> Row | None:
        """The first row that did not fail at this worker.

        If all did and no other worker is there, they have failed.
        """
        for row in self._waiting:
            if self._tries.may_run(row.record.number, worker):
                return row
        while self._waiting and not self._tries.has_other(worker, now):
            record = self._waiting[0].record
            self._close(self._waiting[0], Ending(record.seconds or 0, error=record.error))
            self._waiting.popleft()
        return None

    def _add(self, row: Row, now: float) -> Lease:
        record = row.record
        lease_id = self._records.prompt_id(record)
        worker, until = record.server or "", now + self.seconds
        lease = Lease(lease_id, row, self._records.row_id(record), record.attempt, worker, until)
        self._leases[lease_id] = lease
        return lease

    def _give_back(self, lease: Lease) -> None:
        record = lease.row.record
        record.server, record.state = None, WAITING
        self._waiting.appendleft(lease.row)

    def _close(self, row: Row, ending: Ending) -> None:
        self._change(
            row.record,
            state=DONE if ending.error is None else FAILED,
            error=ending.error,
            seconds=ending.seconds,
            files=list(ending.files),
            report=dict(ending.report),
        )
        self._on_end(row.record)

    def _change(self, record: Record, **fields: Any) -> None:
        """Change a record on disk and then here, so that a disk that refuses changes nothing."""
        self._records.save(replace(record, **fields))
        for name, value in fields.items():
            setattr(record, name, value)
