"""The plain player page in a thread of its own, for runs without ComfyUI's web server (`--watch`).

It listens on this machine only, unless `Access` says otherwise. Its address ends in a key, and a
page without the key gets no take. The key is the page's websocket id, so the routes are the ones
that ComfyUI serves.
"""

from __future__ import annotations

import asyncio
import importlib
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from ...errors import BadInput
from ...stream.preview.messages import JsonObject
from ...stream.preview.takes import Takes
from ..request_log import request_logger
from .access import LOOPBACK, THIS_MACHINE, Access
from .app import Sockets, application

EVERYWHERE = ("0.0.0.0", "::")
END_S = 2.0  # for requests that are under way when the page closes; aiohttp would give them 60


class PageServer:
    """Serves the takes of one process until it is closed."""

    def __init__(
        self, takes: Takes, folders: Callable[[], Mapping[str, Path]], access: Access = THIS_MACHINE
    ) -> None:
        self.key = secrets.token_urlsafe(16)
        self._sockets = Sockets()
        self._emit = self._sockets.emitter(self.key)
        self._app = application(takes, self._sockets, folders, access)
        self._listen = access.listen
        self._port: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="longtake-page", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address with the key after the #, which browsers do not send."""
        name = LOOPBACK if self._listen in EVERYWHERE else self._listen
        name = f"[{name}]" if ":" in name else name
        return f"http://{name}:{self._open_port()}/#{self.key}"

    def emit(self, event: str, payload: JsonObject) -> None:
        """Send an event to the page, from any thread."""
        self._emit(event, payload)

    def close(self) -> None:
        with suppress(RuntimeError):  # the loop has ended: nothing could listen
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _open_port(self) -> int:
        try:
            return self._port.result()
        except OSError as error:
            raise BadInput(
                f"--listen {self._listen}: the player cannot listen there "
                f"({error.strerror or error}); choose an address of this machine."
            ) from error

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        runner = web.AppRunner(
            self._app,
            access_log=None,
            logger=request_logger("player"),
            shutdown_timeout=END_S,
        )
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._listen, 0).start()
            except OSError as error:
                self._port.set_exception(error)
                return
            self._port.set_result(runner.addresses[0][1])
            await self._closing.wait()
        finally:
            await runner.cleanup()


def open_page(access: Access = THIS_MACHINE) -> PageServer:
    """Open the page over the takes of this package's nodes, whichever host runs them."""
    session = importlib.import_module("...nodes.runtime.session", __package__).session
    host = importlib.import_module("...nodes.host", __package__)
    return PageServer(session.takes, host.folders, access)
