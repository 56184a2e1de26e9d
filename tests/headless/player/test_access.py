"""Who may talk to the player page of `--watch`: its own names, and no other site's pages."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from longtake.errors import BadInput
from longtake.headless.player.access import THIS_MACHINE, Access
from longtake.headless.player.app import WEB, Sockets, application
from longtake.stream.preview.takes import Takes
from longtake.tests.support.laws import examples

REBOUND = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}


@pytest.mark.parametrize(
    ("access", "host", "own"),
    [
        (THIS_MACHINE, "127.0.0.1:8000", True),
        (THIS_MACHINE, "127.9.9.9", True),
        (THIS_MACHINE, "LocalHost:8000", True),
        (THIS_MACHINE, "localhost.:8000", True),
        (THIS_MACHINE, "[::1]:8000", True),
        (THIS_MACHINE, "evil.example:8000", False),
        (THIS_MACHINE, "localhost.evil.example", False),
        (THIS_MACHINE, "127.0.0.1.evil.example", False),
        (THIS_MACHINE, "192.168.1.5:8000", False),
        (THIS_MACHINE, "evil.example@127.0.0.1", False),
        (THIS_MACHINE, "127.0.0.1/x", False),
        (THIS_MACHINE, "127.0.0.1:x", False),
        (THIS_MACHINE, "", False),
        (Access("192.168.1.5"), "192.168.1.5:8000", True),
        (Access("192.168.1.5"), "192.168.1.6:8000", False),
        (Access("gpu-box"), "GPU-box:8000", True),
        (Access("0.0.0.0"), "192.168.1.5:8000", True),
        (Access("::"), "[fe80::1]:8000", True),
        (Access("0.0.0.0"), "evil.example", False),
        (Access("127.0.0.1", ("video.example",)), "video.example", True),
        (Access("127.0.0.1", ("video.example",)), "x.video.example", False),
        (Access("127.0.0.1", ("10.0.0.1",)), "10.0.0.1:80", True),
    ],
)
def test_only_own_names_are_answered(access: Access, host: str, own: bool) -> None:
    assert (access.refusal({"Host": host}) is None) is own
    assert (access.refusal({"Host": host, "Origin": f"http://{host}"}) is None) is own


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://[", ""]
)
def test_pages_of_other_sites_are_refused(origin: str) -> None:
    assert THIS_MACHINE.refusal({"Host": "127.0.0.1:8000", "Origin": origin}) is not None


def test_a_proxy_may_write_the_usual_port_but_another_site_stays_one() -> None:
    access, origin = Access("127.0.0.1", ("video.example",)), "https://video.example"
    assert access.refusal({"Host": "video.example:443", "Origin": origin}) is None
    rewritten = {"Host": "127.0.0.1:8000", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert "A proxy must pass on the Host" in (access.refusal(rewritten) or "")
    assert access.refusal({**REBOUND, "Sec-Fetch-Site": "same-origin"}) is not None


@pytest.mark.parametrize(
    "name", ["http://video.example", "video.example:80", "a b", "", "-x", "ä.example"]
)
def test_a_name_that_is_none_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(BadInput, match="--allow-host .* is not the name or the address"):
        Access(allow_hosts=(name,))


def test_a_rebound_name_gets_nothing_from_any_route(tmp_path: Path) -> None:
    async def statuses() -> list[int]:
        async with TestClient(TestServer(application(Takes(lambda: tmp_path), Sockets()))) as page:
            found = []
            for method, path in (
                ("GET", "/"), ("GET", "/web/player/page.mjs"), ("GET", "/view"),
                ("GET", "/longtake/takes/x"), ("POST", "/longtake/attach"),
                ("POST", "/api/longtake/takes/x/control"), ("GET", "/nothing"),
            ):  # fmt: skip
                async with page.request(method, path, headers=REBOUND, json={}) as answer:
                    found.append(answer.status)
            for headers in (REBOUND, {"Origin": "http://evil.example"}):
                with pytest.raises(WSServerHandshakeError) as refused:
                    await page.ws_connect("/ws?clientId=x", headers=headers)
                found.append(refused.value.status)
            async with page.ws_connect("/ws?clientId=x"):  # our own page
                return found

    assert set(asyncio.run(statuses())) == {403}


def test_every_file_of_the_page_is_served_and_no_other(tmp_path: Path) -> None:
    async def check() -> None:
        async with TestClient(TestServer(application(Takes(lambda: tmp_path), Sockets()))) as page:
            for path in WEB.rglob("*.mjs"):
                async with page.get(f"/web/{path.relative_to(WEB).as_posix()}") as answer:
                    assert answer.status == 200 and await answer.read() == path.read_bytes()
                    assert answer.content_type.endswith("/javascript")
            for name in (
                "",
                "player",
                "../pyproject.toml",
                "..%2fpyproject.toml",
                "player/",
                "nothing",
            ):
                url = page.make_url("/").with_path(f"/web/{name}", encoded=True)
                async with ClientSession() as session, session.get(url) as answer:
                    assert answer.status == 404, name

    asyncio.run(check())


def test_no_path_and_no_name_is_answered_by_a_500_or_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.new_event_loop()
    page = TestClient(
        TestServer(application(Takes(lambda: tmp_path), Sockets()), loop=loop), loop=loop
    )
    loop.run_until_complete(page.start_server())
    names = st.text(st.characters(min_codepoint=1, max_codepoint=0x2FFF), max_size=40)
    long_names = st.integers(200, 6000).map(lambda count: "a" * count)
    odd = st.sampled_from(["%00", "%ff%fe", "..%5c", "con", "player/%2e%2e/x", "a/" * 900])

    @examples(150)
    @given(
        st.sampled_from(["/web/", "/view?filename=", "/", "/longtake/takes/"]),
        st.one_of(names.map(lambda name: quote(name, safe="/")), long_names, odd),
        st.sampled_from([{}, REBOUND, {"Host": "["}, {"Origin": "http://["}, {"Host": "a" * 3000}]),
    )
    def fuzz(place: str, name: str, headers: dict[str, str]) -> None:
        async def status() -> int:
            url = URL(f"{page.make_url('')}{place}{name}", encoded=True)
            async with page.session.get(url, headers=headers) as answer:
                await answer.read()
                return answer.status

        assert loop.run_until_complete(status()) < 500

    try:
        with caplog.at_level(logging.ERROR):
            fuzz()
        assert "Traceback" not in caplog.text and not caplog.records
    finally:
        loop.run_until_complete(page.close())
        loop.close()
