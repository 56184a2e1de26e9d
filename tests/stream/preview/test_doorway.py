"""Requests whose Origin or Host cannot be read never get as far as the host's own check."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from longtake.stream.preview.doorway import refuse_unreadable_names


def ask(path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Status and text of a server that answers `through` to all that the doorway lets in."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="through")

    async def test() -> tuple[int, str]:
        app = web.Application(middlewares=[refuse_unreadable_names])
        app.router.add_get("/{path:.*}", answer)
        async with (
            TestClient(TestServer(app)) as page,
            page.get(path, headers=headers) as response,
        ):
            return response.status, await response.text()

    return asyncio.run(test())


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Origin", "http://[::1"),
        ("Origin", "http://a:b:c"),
        ("Origin", "http://127.0.0.1:99999999"),
        ("Host", "127.0.0.1:port"),
        ("Host", "[::1"),
    ],
)
def test_an_unreadable_name_is_refused_with_a_sentence(prefix: str, name: str, value: str) -> None:
    status, text = ask(f"{prefix}/longtake/takes/x", {name: value})
    assert status == 403
    assert text == f'{{"error": "Requests with an unreadable {name} header are refused."}}'


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8188", "null", "http://other.example", ""])
def test_a_readable_name_is_left_to_the_checks_that_follow(origin: str) -> None:
    assert ask("/longtake/takes/x", {"Origin": origin}) == (200, "through")


def test_the_routes_of_others_are_left_alone() -> None:
    assert ask("/queue", {"Origin": "http://a:b:c"}) == (200, "through")
    assert ask("/longtake_of_others", {"Origin": "http://a:b:c"}) == (200, "through")
