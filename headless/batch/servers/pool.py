"""The assignment of rows to servers.

A row queued on a server stays with it, because the server's queue or history may still hold the
row. Once the server is considered lost, any free server takes the row.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence

from ..record import DONE, FAILED, QUEUED, WAITING, Record, Records
from ..row import Row

MAX_LOSSES = 3


class Pool:
    """The unfinished rows of a batch, shared by the servers' workers."""

    def __init__(self, rows: Sequence[Row], records: Records, servers: Sequence[str]) -> None:
        self._records = records
        # By the server that may hold them, so that finding a row takes no search.
        self._waiting: defaultdict[str | None, deque[Row]] = defaultdict(deque)
        unfinished = [row for row in rows if row.record.state not in (DONE, FAILED)]
        for row in unfinished:
            self._waiting[row.record.server].append(row)
        self._unfinished = len(unfinished)
        self._present = set(servers)
        self._left_behind: dict[str, set[str]] = {name: set() for name in servers}
        self._changed = asyncio.Condition()

    @property
    def unfinished(self) -> int:
        """Number of rows that are neither done nor failed."""
        return self._unfinished

    async def take(self, server: str, *, ahead: bool) -> Row | None:
        """Wait for and return the next row for a server; return None once all rows have ended.

        Use `ahead` for a busy server: it gets a row only while there are more rows than the other
        servers could start at once.
        """
        async with self._changed:
            while self._unfinished:
                row = self._pick(server, ahead=ahead)
                if row is not None:
                    self._moved_from(row.record, server)
                    return row
                await self._changed.wait()
        return None

    async def give_back(self, row: Row) -> None:
        """Return a row whose server is lost; the row keeps its record of that server."""
        async with self._changed:
            self._waiting[row.record.server].appendleft(row)
            self._changed.notify_all()

    async def end(self, row: Row) -> None:
        """Count the row as done or failed."""
        await asyncio.to_thread(self._records.save, row.record)
        async with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()

    async def mark_lost(self, server: str) -> None:
        """Free the rows of a server that has not answered for long."""
        async with self._changed:
            self._present.discard(server)
            self._changed.notify_all()

    async def set_aside(self, server: str) -> None:
        """Free the rows of a server that cannot be trusted, to be taken after all others.

        A row that makes every server answer badly so spoils none before the others are done.
        """
        async with self._changed:
            self._present.discard(server)
            for row in self._waiting.pop(server, ()):
                row.record.server, row.record.state, row.record.losses = None, WAITING, 0
                self._records.save(row.record)
                self._waiting[None].append(row)
            self._changed.notify_all()

    async def mark_found(self, server: str) -> set[str]:
        """Accept a returned server; return the ids of prompts that others took over meanwhile."""
        async with self._changed:
            self._present.add(server)
            left, self._left_behind[server] = self._left_behind[server], set()
            return left

    def _pick(self, server: str, *, ahead: bool) -> Row | None:
        own = self._waiting[server]
        if own:
            return own.popleft()
        free = [rows for name, rows in self._waiting.items() if rows and name not in self._present]
        enough = sum(map(len, free)) >= len(self._present) if ahead else bool(free)
        return free[0].popleft() if enough else None

    def _moved_from(self, record: Record, server: str) -> None:
        """Note the prompt that another server may still run for a row that now goes to `server`."""
        if record.state == QUEUED and record.server not in (None, server):
            self._left_behind.setdefault(record.server or "", set()).add(
                self._records.prompt_id(record)
            )
            record.losses += 1
