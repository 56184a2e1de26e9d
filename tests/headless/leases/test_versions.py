"""A worker and a driver of two versions of Longtake: neither works with the other."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console
from yarl import URL

from longtake.errors import LongtakeError
from longtake.headless.batch.display import Display
from longtake.headless.batch.record import Records
from longtake.headless.leases.driver.service import LeaseService
from longtake.headless.leases.key import header
from longtake.headless.leases.queue import LeaseQueue
from longtake.headless.leases.staging import Staging
from longtake.headless.leases.version import difference, own_version, stated
from longtake.headless.leases.worker.link import Link
from longtake.headless.leases.worker.loop import LoopThread
from longtake.tests.support.headless.lease_batches import KEY, Batch

pytestmark = pytest.mark.usefixtures("quickly")
Requests = tuple[LoopThread, aiohttp.ClientSession]
OTHER = "0.0.7"


def test_a_driver_gives_no_row_to_a_worker_of_another_version(
    batch: Batch, requests: Requests
) -> None:
    loop, session = requests
    stranger = Link(session, URL(batch.url), KEY, 1, version=OTHER)
    sentence = f"Longtake {OTHER}, the driver Longtake {own_version()}, and"
    with pytest.raises(LongtakeError, match=sentence):
        loop.wait(stranger.take("w"))
    assert [row.attempt for row in batch.records()] == [0] * batch.count


def test_a_worker_that_states_no_version_is_refused(batch: Batch, requests: Requests) -> None:
    loop, session = requests

    async def ask() -> tuple[int, str]:
        body = {"worker": "w"}
        async with session.post(f"{batch.url}/lease", json=body, headers=header(KEY)) as answer:
            return answer.status, await answer.text()

    status, text = loop.wait(ask())
    assert (status, text) == (400, difference(None, own_version()))


@pytest.mark.parametrize("headers", [stated(OTHER), {}], ids=["other", "none"])
def test_a_worker_takes_no_row_of_a_driver_of_another_version(headers: Mapping[str, str]) -> None:
    async def no_row(_: web.Request) -> web.Response:
        return web.Response(status=204, headers=headers)

    async def ask() -> None:
        app = web.Application()
        app.router.add_post("/lease", no_row)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            await Link(session, URL(str(server.make_url("/"))), "a key", 1.0).take("w")

    with pytest.raises(LongtakeError, match="install the same version on both machines"):
        asyncio.run(ask())


def test_a_driver_says_once_that_it_refuses_a_version() -> None:
    shown = io.StringIO()
    display = Display(Console(file=shown, soft_wrap=True), [])
    for _ in range(2):
        display.refuse(difference(OTHER, own_version()) or "")
    assert shown.getvalue().count("A worker is refused: the worker runs Longtake 0.0.7") == 1
    assert difference(OTHER, OTHER) is None


def test_a_driver_does_not_wait_for_a_worker_that_it_refused(tmp_path: Path) -> None:
    """The last workers that it heard are told that all rows have ended."""
    display = Display(Console(quiet=True), [])
    queue = LeaseQueue([], Records(tmp_path), 30.0, 0.0)
    service = LeaseService(queue, Staging(tmp_path), display, KEY)

    async def ask() -> int:
        async with (
            TestServer(service.application()) as server,
            aiohttp.ClientSession(headers=header(KEY)) as session,
            session.post(server.make_url("/lease"), json={"worker": "w"}) as answer,
        ):
            return answer.status

    assert (asyncio.run(ask()), service.heard) == (400, {})
