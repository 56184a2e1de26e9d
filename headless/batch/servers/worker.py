"""One server working on a batch: queues, follows and fetches rows, and survives lost
connections.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ....errors import BadInput
from ..display import Display
from ..record import DONE, FAILED, QUEUED, WAITING, Record, Records
from ..row import Row
from .answers import BadAnswer
from .client import Client, FileMissing, Refusal, ServerLost
from .outputs import fetch, outcome
from .pool import MAX_LOSSES, Pool
from .watch import ProgressWatch

FIRST_PAUSE_S, MAX_PAUSE_S = 0.25, 15.0
LOST_AFTER_S = 10.0
MAX_STRIKES, LOST_ROW_STRIKES = 12, 4  # a lost connection is one strike


class NotQueued(ServerLost):
    """The connection was lost while a row was queued."""


class PromptLost(Exception):
    """The server answers but does not know the prompt."""


@dataclass(slots=True)
class Worker:
    """Works on one server until all rows have ended, the server is away for `patience_s`, or it
    is set aside.
    """

    client: Client
    pool: Pool
    records: Records
    display: Display
    patience_s: float
    _order: asyncio.Lock = field(default_factory=asyncio.Lock)
    _strikes: int = 0  # losses since a row was last done here, though the server greets us

    async def run(self) -> None:
        """Serve rows; after a loss, wait for the server to come back."""
        try:
            while self.pool.unfinished and await self._is_back():
                with suppress(ServerLost):
                    await self._serve()
        except BadAnswer as reason:
            await self.pool.set_aside(self.client.name)
            self.display.set_aside(self.client.name, str(reason))

    async def _is_back(self) -> bool:
        """Wait for the server with growing pauses; return False when patience runs out."""
        since, pause = time.monotonic(), FIRST_PAUSE_S
        while self.pool.unfinished:
            try:
                await self.client.greet()
                await self.client.drop(await self.pool.mark_found(self.client.name))
                return True
            except (ServerLost, BadInput) as error:
                away_s = time.monotonic() - since
                if away_s >= LOST_AFTER_S:
                    await self.pool.mark_lost(self.client.name)
                    self.display.mark_lost(self.client.name, str(error))
                if away_s >= self.patience_s:
                    return False
            await asyncio.sleep(min(pause, self.patience_s))
            pause = min(pause * 2, MAX_PAUSE_S)
        return False

    async def _serve(self) -> None:
        """Run two lanes: one row runs while the next waits in the server's own queue."""
        watch = ProgressWatch(self.client)
        listener = asyncio.create_task(watch.run())
        lanes = [asyncio.create_task(self._lane(watch, ahead=ahead)) for ahead in (False, True)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for task in (listener, *lanes):
                task.cancel()
            await asyncio.gather(listener, *lanes, return_exceptions=True)

    async def _lane(self, watch: ProgressWatch, *, ahead: bool) -> None:
        while (row := await self.pool.take(self.client.name, ahead=ahead)) is not None:
            try:
                await self._run(row, watch)
            except (PromptLost, FileMissing) as loss:
                await self._repeat(row, loss)
                continue
            except (ServerLost, BadAnswer, asyncio.CancelledError) as error:
                await self.pool.give_back(row)
                if isinstance(error, ServerLost):
                    strikes = LOST_ROW_STRIKES if isinstance(error, NotQueued) else 1
                    self._strike(f"it greets but does not answer ({error})", strikes)
                raise
            except Refusal as error:
                self._fail(row.record, str(error))
            await self.pool.end(row)
            self.display.finish(row.record)

    async def _repeat(self, row: Row, loss: PromptLost | FileMissing) -> None:
        """Return a row to be queued again here or elsewhere."""
        if isinstance(loss, FileMissing):
            row.record.losses += 1
            row.record.server, row.record.state = None, WAITING
        await self.pool.give_back(row)
        self._strike(str(loss), LOST_ROW_STRIKES)

    def _strike(self, reason: str, strikes: int) -> None:
        self._strikes += strikes
        if self._strikes >= MAX_STRIKES:
            raise BadAnswer(reason)

    async def _run(self, row: Row, watch: ProgressWatch) -> None:
        record = row.record
        async with self._order:  # rows are queued in the order in which lanes took them
            prompt_id = await self._queue_once(row)
        watch.follow(
            prompt_id, row.prompt(), lambda done, total: self.display.set_progress(row, done, total)
        )
        try:
            entry = await self._end_of(prompt_id, row, watch)
        finally:
            watch.forget(prompt_id)
        record.seconds, record.report, problem = outcome(entry)
        if problem is not None:
            self._fail(record, problem)
            return
        record.files = await fetch(self.client, entry, self.records.out, record.folder)
        record.state, record.error, self._strikes = DONE, None, 0

    async def _queue_once(self, row: Row) -> str:
        """Return the id of the row's prompt, queueing a new prompt if there is none."""
        record = row.record
        if record.server == self.client.name and record.attempt:
            prompt_id = self.records.prompt_id(record)
            if await self.client.finished(prompt_id) or await self.client.place(prompt_id):
                return prompt_id
            record.losses += record.state == QUEUED
        if record.losses >= MAX_LOSSES:
            raise Refusal(f"lost with its server {record.losses} times")
        record.attempt += 1
        record.server, record.state = self.client.name, QUEUED
        # On disk before queueing, so that a kill in between never repeats a run.
        await asyncio.to_thread(self.records.save, record)
        prompt_id = self.records.prompt_id(record)
        try:
            await self.client.queue(row.prompt(), prompt_id)
        except ServerLost as error:
            raise NotQueued(str(error)) from error
        return prompt_id

    async def _end_of(self, prompt_id: str, row: Row, watch: ProgressWatch) -> dict[str, Any]:
        while (entry := await self.client.finished(prompt_id)) is None:
            place = await self.client.place(prompt_id)
            if place is None:  # or it ended between the two requests
                entry = await self.client.finished(prompt_id)
                if entry is None:
                    raise PromptLost("it accepts prompts and forgets them")
                break
            self.display.set_place(row, place)
            await watch.wait(prompt_id)
        return entry

    def _fail(self, record: Record, problem: str) -> None:
        record.state, record.error = FAILED, problem
