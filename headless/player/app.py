"""The preview's player on a plain web page, without ComfyUI: the same routes and messages.

/              web/page.html, the page
/web/          our folder web/
/ws?clientId=  messages to the pages of that id, in ComfyUI's form
/view?...      a saved file of a take that belongs to the page with this clientId
/longtake/...  the preview's routes, also below /api

Every request must call the page by one of its own names (`access.py`). The files of web/ are listed
once: no path from a request reaches the file system.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Middleware

from ...stream.live.routes import live_routes
from ...stream.live.sources import LiveSources
from ...stream.preview.messages import Emit, JsonObject
from ...stream.preview.routes import GUARDED, Handler, take_routes
from ...stream.preview.takes import Takes
from .access import THIS_MACHINE, Access

WEB = Path(__file__).resolve().parents[2] / "web"
PAGE = WEB / "page.html"
FILE_FIELDS = ("filename", "subfolder", "type")
HEARTBEAT_S = 20.0  # a page that sleeps says no farewell
FAREWELL_S = 1.0  # for a page to answer that its socket closes

Outbox = asyncio.Queue[str]


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """An open page's socket, what is to be sent through it, and its connection."""

    socket: web.WebSocketResponse
    outbox: Outbox
    transport: asyncio.BaseTransport | None

    async def close(self) -> None:
        """Say farewell. A page that reads nothing more loses its connection instead."""
        try:
            await asyncio.wait_for(self.socket.close(), 2 * FAREWELL_S)
        except asyncio.TimeoutError:
            if isinstance(self.transport, asyncio.WriteTransport):
                self.transport.abort()


class Sockets:
    """The open pages by their client ids.

    Pages of one key, such as a desk's and a phone's, share an id. Each page has its own queue, so
    that a slow one keeps no other waiting.
    """

    def __init__(self) -> None:
        self._open: dict[str, list[_Page]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def emitter(self, client_id: str) -> Emit:
        """Return a function that sends messages to the pages of one id, from any thread."""

        def emit(event: str, payload: JsonObject) -> None:
            message = json.dumps({"type": event, "data": payload})
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._put, client_id, message)

        return emit

    def _put(self, client_id: str, message: str) -> None:
        for page in self._open.get(client_id, []):
            page.outbox.put_nowait(message)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Send a page its messages until it leaves, or answers no ping."""
        self._loop = asyncio.get_running_loop()
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, timeout=FAREWELL_S)
        await socket.prepare(request)
        client_id = request.query.get("clientId", "")
        page = _Page(socket, Outbox(), request.transport)
        pages = self._open.setdefault(client_id, [])
        pages.append(page)
        sender = asyncio.create_task(_send_all(page.outbox, socket))
        try:
            async for message in socket:
                if message.type == WSMsgType.ERROR:
                    break
        finally:
            sender.cancel()
            pages.remove(page)
            if not pages:
                del self._open[client_id]
        return socket

    async def close(self) -> None:
        await asyncio.gather(*(page.close() for pages in self._open.values() for page in pages))


def application(
    takes: Takes,
    sockets: Sockets,
    folders: Callable[[], Mapping[str, Path]] = dict,
    access: Access = THIS_MACHINE,
) -> web.Application:
    """Return the page, its websocket and the routes over `takes`; `folders` are the host's, by
    name.
    """
    app = web.Application(middlewares=[_only_own_names(access)])
    app.router.add_get("/", _page)
    app.router.add_get("/ws", sockets.serve)
    app.router.add_get("/web/{name:.*}", _web_files())
    app.router.add_get("/view", _files(takes, folders))
    live = LiveSources(takes)
    for prefix in ("", "/api"):  # as ComfyUI does with the routes of packs
        for route in (*take_routes(takes), *live_routes(live)):
            assert isinstance(route, web.RouteDef)
            web.RouteDef(route.method, prefix + route.path, route.handler, {}).register(app.router)
    app.on_shutdown.append(partial(_end, live, sockets))
    return app


async def _end(live: LiveSources, sockets: Sockets, _: web.Application) -> None:
    live.close()
    await sockets.close()


def _files(takes: Takes, folders: Callable[[], Mapping[str, Path]]) -> Handler:
    """Serve saved files that a take lists, to the page of this take only."""

    async def view(request: web.Request) -> web.StreamResponse:
        query = request.query
        known = takes.of_client(query.get("clientId", ""))
        for file in (file for take in known for file in take.files):
            if all(query.get(name) == getattr(file, name) for name in FILE_FIELDS):
                return web.FileResponse(folders()[file.type] / file.subfolder / file.filename)
        raise web.HTTPNotFound

    return view


def _only_own_names(access: Access) -> Middleware:
    """Refuse requests of other sites' pages, and those that call the page by an unknown name."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = access.refusal(request.headers)
        if refusal is not None:
            return web.json_response({"error": refusal}, status=403, headers=GUARDED)
        return await handler(request)

    return check


def _web_files() -> Handler:
    """Serve the files of our folder web/."""
    files = {path.relative_to(WEB).as_posix(): path for path in WEB.rglob("*") if path.is_file()}

    async def serve(request: web.Request) -> web.StreamResponse:
        path = files.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    return serve


async def _page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


async def _send_all(outbox: Outbox, socket: web.WebSocketResponse) -> None:
    try:
        while True:
            await socket.send_str(await outbox.get())
    except ConnectionError:
        await socket.close()
