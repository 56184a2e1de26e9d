"""A worker's requests to its driver."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import aiohttp
from yarl import URL

from ....errors import LongtakeError, StorageError
from ...batch.servers.answers import decode, short
from ...batch.servers.client import PIECE_BYTES, TIMEOUT
from ...batch.servers.reasons import reason_of
from ..key import header
from ..version import difference, own_version, read_version, stated

FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 15.0
PROCESS_HEADER = "Longtake-Worker"
"""Holds an id of the worker's process in each request: two workers may have one name."""

GONE, CONFLICT, FULL = 410, 409, 507
T = TypeVar("T")


class DriverLost(Exception):
    """The driver does not answer."""


class DriverFull(DriverLost):
    """The driver answers that its disk does not take what a worker brings."""


class LeaseEnded(Exception):
    """The lease has ended; another worker has the row."""


class AllEnded(Exception):
    """All rows of the batch have ended."""


@dataclass(frozen=True, slots=True)
class Task:
    """A leased row: its lease, the seconds within which to renew, a label and the workflow.

    `number` counts the leases of the row, whose id is `row`.
    """

    lease: str
    seconds: float
    label: str
    workflow: Mapping[str, Any]
    row: str = ""
    number: int = 1


@dataclass(slots=True)
class Link:
    """The driver at `url`. After `patience_s` without an answer its worker gives up; `say` gets a
    sentence when that time begins.
    """

    session: aiohttp.ClientSession
    url: URL
    key: str = field(repr=False)
    patience_s: float
    say: Callable[[str], None] = lambda _: None
    process: str = field(default_factory=lambda: str(uuid.uuid4()))
    version: str = field(default_factory=own_version)

    async def take(self, worker: str) -> Task | None:
        """Return the next row, None while no row waits; raise `AllEnded` after the last."""
        status, text = await self._ask("POST", "lease", json={"worker": worker})
        if status == GONE:
            raise AllEnded
        return None if status == 204 else _task(text)

    async def renew(self, task: Task, done: int | None, total: int | None) -> None:
        """Prolong the lease and report the row's finished chunks."""
        await self._ask("POST", "lease", task.lease, "renew", json={"done": done, "total": total})

    async def send(self, task: Task, file: Path, path: str) -> None:
        """Bring one file of the row; raise StorageError if it cannot be read here."""
        try:
            source = file.open("rb")
        except OSError as error:
            raise StorageError(f"{file} cannot be read ({error.strerror}).") from error
        with source:
            where = ("files", *path.split("/"))
            await self._ask("PUT", "lease", task.lease, *where, data=_pieces(source))

    async def end(self, task: Task, ending: Mapping[str, object]) -> None:
        """Say how the row ended."""
        await self._ask("POST", "lease", task.lease, "end", json=ending)

    async def release(self, task: Task) -> None:
        """Give the row back."""
        await self._ask("DELETE", "lease", task.lease)

    async def insist(self, request: Callable[[], Awaitable[T]]) -> T:
        """Repeat a request until the driver answers; raise LongtakeError after `patience_s`."""
        since, pause, is_told = time.monotonic(), FIRST_PAUSE_S, False
        while True:
            try:
                return await request()
            except DriverLost as error:
                if time.monotonic() - since >= self.patience_s:
                    raise LongtakeError(self._why_it_gives_up(error)) from error
                if not is_told:
                    self.say(self._why_it_waits(error))
                    is_told = True
            await asyncio.sleep(min(pause, self.patience_s))
            pause = min(pause * 2, MAX_PAUSE_S)

    def _why_it_waits(self, error: DriverLost) -> str:
        what = "refuses" if isinstance(error, DriverFull) else "does not answer"
        reason = str(error).rstrip(".")
        return (
            f"The driver at {self.url} {what} ({reason}); waiting for up to {self.patience_s:g} s."
        )

    def _why_it_gives_up(self, error: DriverLost) -> str:
        if isinstance(error, DriverFull):
            return f"The driver at {self.url} has refused for {self.patience_s:g} s: {error}"
        return f"The driver at {self.url} does not answer ({error}); is it running?"

    async def _ask(self, method: str, *path: str, **body: Any) -> tuple[int, str]:
        url = self.url.joinpath(*path)
        headers = {
            **header(self.key), PROCESS_HEADER: self.process, **stated(self.version)
        }  # fmt: skip
        try:
            async with self.session.request(
                method, url, headers=headers, timeout=TIMEOUT, **body
            ) as answer:
                checked = _checked(answer.status, await answer.text(errors="replace"), url)
                self._check_version(read_version(answer.headers))
                return checked
        except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
            raise DriverLost(reason_of(error)) from error

    def _check_version(self, driver: str | None) -> None:
        """Raise LongtakeError where the driver is of another version, and refuses nobody itself."""
        refusal = difference(self.version, driver)
        if refusal is not None:
            raise LongtakeError(f"This worker cannot work for {self.url.origin()}: {refusal}")


async def _pieces(source: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(source.read, PIECE_BYTES):
        yield piece


def _checked(status: int, text: str, url: URL) -> tuple[int, str]:
    """Return an answer of the driver; raise what the status means."""
    if status in (200, 201, 204, GONE):
        return status, text
    if status == CONFLICT:
        raise LeaseEnded
    if status == 401:
        raise LongtakeError(f"The driver at {url.origin()} has another key; check --key-file.")
    if status == 400:
        raise LongtakeError(f"The driver refuses: {short(text, 300)}")
    if status == FULL:
        raise DriverFull(short(text, 300))
    if status >= 500:  # a proxy answers for it
        raise DriverLost(f"it answers {status} {short(text)}")
    raise LongtakeError(
        f"{url.origin()} is no driver of a batch (it answers {status}); check --join."
    )


def _task(text: str) -> Task:
    """Return a leased row; the lease's id names a folder here, so it must be a UUID."""
    content = decode(text)
    with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return Task(
            str(uuid.UUID(content["lease"])), _seconds(content["seconds"]), str(content["label"]),
            dict(content["workflow"]), str(uuid.UUID(content["row"])), int(content["number"]),
        )  # fmt: skip
    raise LongtakeError(f"The driver leases {short(text, 60)}; is it another version of Longtake?")


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError("a lease lasts for a time")
    return seconds
