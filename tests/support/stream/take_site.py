"""The preview's routes over a store with one running take, for the tests of the routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from longtake.headless.player.app import Sockets, application
from longtake.stream.lazy.frame_chunk import to_pictures
from longtake.stream.preview.jpeg import pack_frames
from longtake.stream.preview.messages import Origin, Shot, TakeStats
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Limits, Takes
from longtake.tests.support.numbered_frames import numbered_frames
from longtake.tests.support.player_server import FakeControls

Page = TestClient[web.Request, web.Application]
JSON = {"Content-Type": "application/json"}


class Site:
    """A server over a store with one running take of three chunks."""

    def __init__(self, page: Page, takes: Takes, controls: FakeControls) -> None:
        self.page = page
        self.takes = takes
        self.controls = controls
        self.take = open_take(takes, controls)

    @property
    def path(self) -> str:
        return f"/longtake/takes/{self.take.token}"

    async def control(self, body: object, **headers: str) -> tuple[int, Any]:
        """Post to the take's control route."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.page.post(
            f"{self.path}/control", data=data, headers={**JSON, **headers}
        ) as answer:
            return answer.status, await answer.json()

    async def status(self, path: str, method: str = "GET") -> int:
        """The status at a raw path, which the client must not tidy up."""
        url = self.page.make_url("/").with_path(path, encoded=True)
        async with ClientSession() as session, session.request(method, url) as answer:
            return answer.status


def open_take(takes: Takes, controls: FakeControls) -> Take:
    """A take of three chunks of four frames that is still running."""
    take = takes.create(
        Shot(16.0, 32, 32, 24), Origin("7", "7", "prompt", None, "page"), lambda *_: None, controls
    )
    for first in (0, 4, 8):
        take.show(numbered_frames(first, 4, 32, 32), first, "a red ball", TakeStats())
    while take.waiting_bytes:
        pass
    return take


@asynccontextmanager
async def site(folder: Path, limits: Limits | None = None) -> AsyncIterator[Site]:
    """A running server; it and the store are gone afterwards."""
    takes = Takes(lambda: folder, limits or Limits())
    try:
        app = application(takes, Sockets())
        app.middlewares.clear()  # the routes alone, as other servers have them
        async with TestClient(TestServer(app)) as page:
            yield Site(page, takes, FakeControls())
    finally:
        takes.reset()


def served(folder: Path, test: Callable[[Site], Awaitable[None]], **settings: Any) -> None:
    """Run a test against a server."""

    async def run() -> None:
        async with site(folder, **settings) as opened:
            await test(opened)

    asyncio.run(run())


def numbered_chunk() -> bytes:
    """A chunk as large as those of `open_take`, within a few bytes."""
    return pack_frames(to_pictures(numbered_frames(8, 4, 32, 32)))
