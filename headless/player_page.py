"""The preview's player on a plain web page, without ComfyUI: the same routes, the same messages.

Needs aiohttp, which ComfyUI brings and Longtake alone does not (`pip install longtake[page]`).

    /              web/page.html, the page
    /web/          our folder web/
    /ws?clientId=  messages to that page, in ComfyUI's form
    /longtake/...  the preview's routes, and again below /api
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from aiohttp import WSMsgType, web

from ..stream.take_record import Emit, Record
from ..stream.take_routes import take_routes
from ..stream.takes import Takes

WEB = Path(__file__).resolve().parents[1] / "web"
PAGE = WEB / "page.html"


class Sockets:
    """The open pages, by the client id that each has chosen; a page that comes again replaces
    itself.
    """

    def __init__(self) -> None:
        self._open: dict[str, web.WebSocketResponse] = {}
        self._messages: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def emitter(self, client_id: str) -> Emit:
        """Sends messages to one page, from any thread."""

        def emit(event: str, payload: Record) -> None:
            message = json.dumps({"type": event, "data": payload})
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._messages.put_nowait, (client_id, message))

        return emit

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Keep a page's websocket open."""
        client_id = request.query.get("clientId", "")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._open[client_id] = socket
        async for message in socket:
            if message.type == WSMsgType.ERROR:
                break
        if self._open.get(client_id) is socket:
            del self._open[client_id]
        return socket

    async def close(self) -> None:
        """Close every websocket."""
        for socket in list(self._open.values()):
            await socket.close()

    async def deliver(self) -> None:
        """Send what was emitted, in order, until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            client_id, message = await self._messages.get()
            socket = self._open.get(client_id)
            if socket is not None and not socket.closed:
                await _send(socket, message)


def application(takes: Takes, sockets: Sockets) -> web.Application:
    """The page, its websocket and the routes over `takes`."""
    app = web.Application()
    app.router.add_get("/", _page)
    app.router.add_get("/ws", sockets.serve)
    app.router.add_static("/web", WEB)
    for prefix in ("", "/api"):  # as ComfyUI does with the routes of packs
        for route in take_routes(takes):
            assert isinstance(route, web.RouteDef)
            web.RouteDef(route.method, prefix + route.path, route.handler, {}).register(app.router)
    _deliver_while_running(app, sockets)
    return app


def _deliver_while_running(app: web.Application, sockets: Sockets) -> None:
    running: list[asyncio.Task[None]] = []

    async def start(_: web.Application) -> None:
        running.append(asyncio.create_task(sockets.deliver()))

    async def stop(_: web.Application) -> None:
        for task in running:
            task.cancel()
        await sockets.close()

    app.on_startup.append(start)
    app.on_shutdown.append(stop)


async def _page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


async def _send(socket: web.WebSocketResponse, message: str) -> None:
    try:
        await socket.send_str(message)
    except ConnectionError:
        await socket.close()
