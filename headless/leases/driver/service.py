"""The driver's web service, from which workers lease rows and to which they bring the files.

| request | answers |
| --- | --- |
| POST /lease `{"worker": NAME}` | 200 a lease; 204 no row waits now; 410 all rows have ended |
| POST /lease/ID/renew `{"done": 3, "total": 14}` | 200; 409 the lease has ended |
| PUT /lease/ID/files/PATH | 201; 409 |
| POST /lease/ID/end (`messages.read_ending`) | 200; 409; 400 for files that are not there |
| DELETE /lease/ID | 200: the row is given back |

Every request shows the key (401 without), the id of the worker's process, and the worker's version
of Longtake (400 for another than the driver's). Times are the driver's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from ....errors import BadInput, StorageError
from ...batch.display import Display
from ...batch.record import WAITING
from ...batch.servers.client import MAX_FILE_BYTES, PIECE_BYTES
from ..key import is_right
from ..messages import lease_message, progress, read_ending, read_object, worker_name
from ..names import is_safe
from ..queue import Ending, Lease, LeaseQueue
from ..staging import Staging
from ..version import difference, own_version, read_version, stated
from ..worker.link import PROCESS_HEADER

MAX_MESSAGE_BYTES = 1 << 26
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class LeaseService:
    """Answers workers. Changes of the queue happen one after another, beside the event loop."""

    queue: LeaseQueue
    staging: Staging
    display: Display
    key: str
    heard: dict[str, float] = field(default_factory=dict)
    """When each worker's process was last heard, but for those that have left, are silent for two
    leases or more, or know that all rows have ended.
    """
    version: str = field(default_factory=own_version)
    _given: dict[str, str] = field(default_factory=dict)  # process and lease, while it lasts
    _order: asyncio.Lock = field(default_factory=asyncio.Lock)

    def application(self) -> web.Application:
        """Return the routes of the service."""
        app = web.Application(middlewares=[self._with_key], client_max_size=MAX_MESSAGE_BYTES)
        app.on_response_prepare.append(self._state_version)
        app.router.add_post("/lease", self._take)
        app.router.add_post("/lease/{id}/renew", self._renew)
        app.router.add_put("/lease/{id}/files/{path:.+}", self._receive)
        app.router.add_post("/lease/{id}/end", self._end)
        app.router.add_delete("/lease/{id}", self._release)
        return app

    async def expire(self) -> None:
        """End the leases whose time is over, and forget processes that are silent for long."""
        silent = time.monotonic() - 2 * self.queue.seconds
        for process in [process for process, at in self.heard.items() if at <= silent]:
            del self.heard[process]
        for lease in await self._in_turn(lambda: self.queue.expire(time.monotonic())):
            self.display.mark_lost(lease.worker, f"no word for {self.queue.seconds:g} s")
            self.display.leave(lease.row.record)
            self.staging.remove(lease.id)

    @web.middleware
    async def _with_key(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_right(request.headers.get("Authorization", ""), self.key):
            raise web.HTTPUnauthorized(text="The key is missing or wrong.")
        try:
            self._check_version(request)
            self.heard[_process(request)] = time.monotonic()
            return await handler(request)
        except BadInput as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        except StorageError as error:
            self.display.mark_refused(str(error))
            raise web.HTTPInsufficientStorage(text=str(error)) from error

    def _check_version(self, request: web.Request) -> None:
        refusal = difference(read_version(request.headers), self.version)
        if refusal is not None:
            self.display.refuse(refusal)
            raise BadInput(refusal)

    async def _state_version(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(stated(self.version))

    async def _take(self, request: web.Request) -> web.StreamResponse:
        name = worker_name(read_object(await request.read()))
        await self.expire()
        lease = await self._in_turn(lambda: self._lease_for(_process(request), name))
        if lease is not None and _has_left(request):  # it was stopped, or waits no longer
            await self._in_turn(lambda: self.queue.release(lease.id))
            self.heard.pop(_process(request), None)
            return web.Response(status=204)
        if lease is not None:
            self.display.set_place(lease.row, "running")
            return web.json_response(lease_message(lease, self.queue.seconds))
        if self.queue.unfinished:
            return web.Response(status=204)
        self.heard.pop(_process(request), None)
        raise web.HTTPGone(text="All rows have ended.")

    def _lease_for(self, process: str, name: str) -> Lease | None:
        """The next lease for a worker; the one that its process has, if the answer was lost.

        A process runs one row at a time: with a lease that it knows of, it asks for no other.
        """
        now = time.monotonic()
        lease = self.queue.get(self._given.get(process, ""))
        if lease is not None and lease.worker == name and self.queue.renew(lease.id, now):
            return lease
        lease = self.queue.take(name, now)
        if lease is not None and process:
            for other in [key for key, own in self._given.items() if self.queue.get(own) is None]:
                del self._given[other]
            self._given[process] = lease.id
        return lease

    async def _renew(self, request: web.Request) -> web.StreamResponse:
        lease = self._lease(request)
        chunks = progress(read_object(await request.read()))
        if not await self._in_turn(lambda: self.queue.renew(lease.id, time.monotonic())):
            raise _ended()
        if chunks is not None:
            self.display.set_progress(lease.row, *chunks)
        return web.Response()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        lease, path = self._lease(request), request.match_info["path"]
        if not is_safe(path):
            raise BadInput("the file's name cannot be used here.")
        target = self.staging.folder(lease.id) / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            await _write(request, target)
        except ConnectionError:  # the worker has gone; this disk has refused nothing
            raise
        except OSError as error:
            raise StorageError(
                f"{target.name} cannot be written ({error.strerror}); free some space."
            ) from error
        self._lease(request)  # it may have ended meanwhile
        return web.Response(status=201)

    async def _end(self, request: web.Request) -> web.StreamResponse:
        ending = read_ending(read_object(await request.read()))
        lease = self._lease(request)
        if not await self._in_turn(lambda: self._finish(request, ending)):
            raise _ended()
        if lease.row.record.state == WAITING:
            self.display.hand_on(lease.row.record, lease.worker)
        return web.Response()

    def _finish(self, request: web.Request, ending: Ending) -> bool:
        lease = self._lease(request)
        missing = self.staging.missing(lease.id, ending.files)
        if missing:
            raise BadInput(f"the driver has no file {missing[0]}; send it first.")
        name = lease.row.record.folder
        files = self.staging.publish(lease.id, name, ending.files)
        try:
            ended = replace(ending, files=tuple(files))
            return self.queue.end(lease.id, ended, time.monotonic())
        except StorageError:
            self.staging.withdraw(lease.id, name)  # the worker says the end again
            raise

    async def _release(self, request: web.Request) -> web.StreamResponse:
        lease = self._lease(request)
        await self._in_turn(lambda: self.queue.release(lease.id))
        self.heard.pop(_process(request), None)  # it leaves
        self.display.leave(lease.row.record)
        self.staging.remove(lease.id)
        return web.Response()

    def _lease(self, request: web.Request) -> Lease:
        lease = self.queue.get(request.match_info["id"])
        if lease is None:
            raise _ended()
        return lease

    async def _in_turn(self, change: Callable[[], T]) -> T:
        async with self._order:
            return await asyncio.to_thread(change)


def _process(request: web.Request) -> str:
    return request.headers.get(PROCESS_HEADER, "")


def _has_left(request: web.Request) -> bool:
    """Whether nobody waits for the answer: a lease in it would be lost until its end."""
    return request.transport is None or request.transport.is_closing()


def _ended() -> web.HTTPConflict:
    return web.HTTPConflict(text="The lease has ended; another worker has the row.")


async def _write(request: web.Request, target: Path) -> None:
    """Write a request's body to a file."""
    with target.open("wb") as file:
        async for piece in request.content.iter_chunked(PIECE_BYTES):
            file.write(piece)
            if file.tell() > MAX_FILE_BYTES:
                raise BadInput("the file has no end.")
