"""Which server takes which row.

A row that was queued on a server stays that server's, whose queue or history may still hold it,
until the server is given up for lost; then whoever is free takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .record import DONE, FAILED, QUEUED, Record, Records
from .row import Row

MAX_LOSSES = 3


class Pool:
    """The rows of a batch that are not done, shared by the servers' workers."""

    def __init__(self, rows: Sequence[Row], records: Records, servers: Sequence[str]) -> None:
        self._records = records
        self._waiting = [row for row in rows if row.record.state not in (DONE, FAILED)]
        self._unfinished = len(self._waiting)
        self._present = set(servers)
        self._left_behind: dict[str, set[str]] = {name: set() for name in servers}
        self._changed = asyncio.Condition()

    @property
    def unfinished(self) -> int:
        """Rows neither done nor failed."""
        return self._unfinished

    async def take(self, server: str, *, ahead: bool) -> Row | None:
        """The next row for a server, waiting until there is one; None once all rows have ended.

        With `ahead`, for a server that is at work already: a row only while there are more than
        the other servers could begin at once.
        """
        async with self._changed:
            while self._unfinished:
                row = self._pick(server, ahead=ahead)
                if row is not None:
                    self._waiting.remove(row)
                    self._moved_from(row.record, server)
                    return row
                await self._changed.wait()
        return None

    async def give_back(self, row: Row) -> None:
        """The server that had the row is lost or away; the row keeps its mark."""
        async with self._changed:
            self._waiting.insert(0, row)
            self._changed.notify_all()

    async def end(self, row: Row) -> None:
        """The row is done or failed."""
        async with self._changed:
            self._unfinished -= 1
            self._records.save()
            self._changed.notify_all()

    async def lose(self, server: str) -> None:
        """A server has not answered for long: its rows are free for others."""
        async with self._changed:
            self._present.discard(server)
            self._changed.notify_all()

    async def find(self, server: str) -> set[str]:
        """A server answers again; gives the prompts that others have taken over meanwhile."""
        async with self._changed:
            self._present.add(server)
            left, self._left_behind[server] = self._left_behind[server], set()
            return left

    def _pick(self, server: str, *, ahead: bool) -> Row | None:
        own = [row for row in self._waiting if row.record.server == server]
        if own:
            return own[0]
        free = [row for row in self._waiting if row.record.server not in self._present]
        enough = len(free) >= len(self._present) if ahead else bool(free)
        return free[0] if enough else None

    def _moved_from(self, record: Record, server: str) -> None:
        """Remember what another server may still be doing for a row that now goes to `server`."""
        if record.state == QUEUED and record.server not in (None, server):
            self._left_behind.setdefault(record.server or "", set()).add(
                self._records.prompt_id(record)
            )
            record.losses += 1
