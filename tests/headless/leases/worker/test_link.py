"""What a worker takes from a driver that it should not trust."""

from __future__ import annotations

import asyncio
import json
import uuid

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from longtake.errors import LongtakeError
from longtake.headless.leases.version import own_version, stated
from longtake.headless.leases.worker import link
from longtake.headless.leases.worker.link import DriverFull, DriverLost, Link, Task

WHOLE = {
    "lease": str(uuid.uuid4()), "row": str(uuid.uuid4()), "number": 1, "seconds": 60.0,
    "label": "row 1", "workflow": {},
}  # fmt: skip


def take(lease: dict[str, object]) -> Task | None:
    """What a worker makes of a driver's answer."""

    async def lease_it(request: web.Request) -> web.Response:
        return web.Response(text=json.dumps(lease), headers=stated(own_version()))

    async def ask() -> Task | None:
        app = web.Application()
        app.router.add_post("/lease", lease_it)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            return await Link(session, URL(str(server.make_url("/"))), "a key", 1.0).take("w")

    return asyncio.run(ask())


def test_a_whole_lease_is_taken() -> None:
    lease, row = str(WHOLE["lease"]), str(WHOLE["row"])
    assert take(WHOLE) == Task(lease, 60.0, "row 1", {}, row, 1)


@pytest.mark.parametrize(
    "change",
    [
        *({"lease": name} for name in ("/", "..", "../../photos", "", ".", 3, None)),
        *({"row": name} for name in ("..", "", 3)),
        *({"seconds": seconds} for seconds in (0, -1, float("nan"), float("inf"), "x")),
        {"number": float("inf")},
        {"workflow": 3},
    ],
    ids=str,
)
def test_a_lease_names_no_folder_and_lasts_for_a_time(change: dict[str, object]) -> None:
    """A worker removes the folder of a lease after its row."""
    with pytest.raises(LongtakeError, match="another version"):
        take({**WHOLE, **change})


def test_who_waits_for_a_driver_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    answers: list[Exception | str] = [DriverLost("no route"), DriverFull("no room."), "row 1"]

    async def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def insist() -> None:
        url = URL("http://driver")
        async with aiohttp.ClientSession() as session:
            waiting = Link(session, url, "a key", 60.0, told.append)
            assert await waiting.insist(ask) == "row 1"
            answers.extend([DriverFull("no room."), "row 2"])
            assert await waiting.insist(ask) == "row 2"

    monkeypatch.setattr(link, "FIRST_PAUSE_S", 0.0)
    asyncio.run(insist())
    assert told == [
        "The driver at http://driver does not answer (no route); waiting for up to 60 s.",
        "The driver at http://driver refuses (no room); waiting for up to 60 s.",
    ]
