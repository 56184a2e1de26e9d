"""The preview's routes over HTTP: what they give, and everything that they refuse without a 500."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from longtake.headless.player_page import Sockets, application
from longtake.stream.take import Take
from longtake.stream.take_record import Ending, Origin, Shot, TakeStats
from longtake.stream.take_routes import take_routes
from longtake.stream.takes import Limits, Takes
from longtake.tests.laws import examples
from longtake.tests.numbered_frames import numbered_frames
from longtake.tests.player_server import FakeControls, player_server

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
    while take.waiting:
        pass
    return take


@asynccontextmanager
async def site(folder: Path, limits: Limits | None = None) -> AsyncIterator[Site]:
    """A running server; it and the store are gone afterwards."""
    takes = Takes(lambda: folder, limits or Limits())
    try:
        async with TestClient(TestServer(application(takes, Sockets()))) as page:
            yield Site(page, takes, FakeControls())
    finally:
        takes.reset()


def served(folder: Path, test: Callable[[Site], Awaitable[None]], **settings: Any) -> None:
    """Run a test against a server."""

    async def run() -> None:
        async with site(folder, **settings) as opened:
            await test(opened)

    asyncio.run(run())


def test_manifest_and_chunks_are_given_bare_and_below_api(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for prefix in ("", "/api"):
            async with site.page.get(prefix + site.path) as answer:
                known = await answer.json()
                assert known == site.take.manifest() and known["frames"] == 12
                assert answer.headers["Cache-Control"] == "private, no-store"
            async with site.page.get(f"{prefix}{site.path}/chunks/1") as answer:
                packed = await answer.read()
                blob = site.take.blob(1)
                assert blob is not None and packed == blob.read()
                assert len(packed) == known["chunks"][1]["bytes"]
                assert answer.content_type == "application/octet-stream"
                assert answer.headers["Cache-Control"] == "private, max-age=3600, immutable"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"

    served(tmp_path, test)


def test_chunks_on_disk_are_given_and_gone_ones_say_so(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        answers = [await site.status(f"{site.path}/chunks/{seq}") for seq in range(4)]
        assert answers == [410, 200, 200, 404]
        gone = [one["bytes"] == 0 for one in site.take.manifest()["chunks"]]
        assert gone == [True, False, False] and site.takes.ram_bytes == 0

    packed = len(numbered_chunk())
    served(tmp_path, test, limits=Limits(ram_bytes=10, disk_bytes=packed * 5 // 2))


def numbered_chunk() -> bytes:
    """A chunk as large as those of `open_take`, within a few bytes."""
    from longtake.stream.frames import to_pictures
    from longtake.stream.jpeg import pack_frames

    return pack_frames(to_pictures(numbered_frames(8, 4, 32, 32)))


@pytest.mark.parametrize(
    "name",
    [
        "..", "../..", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "....//", "%00", "a%00b", "\\..\\",
        "%5c..%5c", "C:%5cwindows", "/etc/passwd", "~root", "x" * 65, "x" * 5000, "%ff%fe", "a b",
        "%f0%9f%8e%ac", "file:%2f%2f%2fetc", "{take}", "", ".", "null", "0", "-1",
    ],
)  # fmt: skip
def test_no_name_leads_to_a_file(tmp_path: Path, name: str) -> None:
    async def test(site: Site) -> None:
        raw = quote(name, safe="/%.~{}\\:")
        for path in (
            f"/longtake/takes/{raw}",
            f"/longtake/takes/{raw}/chunks/0",
            f"/longtake/takes/{raw}/control",
            f"{site.path}/chunks/x{raw}",
            f"{site.path}/chunks/0/{raw}x",
        ):
            assert await site.status(path) in {404, 405}

    served(tmp_path, test)


@pytest.mark.parametrize("seq", ["999999", "1000000", "-1", "1.5", "1e3", "٣", "0x1", "00000000"])
def test_a_chunk_number_that_is_not_there_is_404(tmp_path: Path, seq: str) -> None:
    async def test(site: Site) -> None:
        assert await site.status(f"{site.path}/chunks/{quote(seq)}") == 404

    served(tmp_path, test)


def test_head_and_range_and_odd_methods(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        blob = site.take.blob(0)
        assert blob is not None
        async with site.page.head(f"{site.path}/chunks/0") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
            assert int(answer.headers["Content-Length"]) == blob.size
        for ranged in ("bytes=0-3", "bytes=-1", "bytes=9999999-", "lines=1-2", "bytes=5-1"):
            async with site.page.get(f"{site.path}/chunks/0", headers={"Range": ranged}) as answer:
                assert (answer.status, await answer.read()) == (200, blob.read())
        for method in ("PUT", "DELETE", "PATCH", "POST"):
            assert await site.status(site.path, method) == 405
        for path in (f"{site.path}/control", "/longtake/attach"):
            assert await site.status(path) == 405  # GET has no effect

    served(tmp_path, test)


def test_each_op_reaches_the_controls(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert await site.control({"op": "pause", "rev": 1}) == (
            200, {"state": "paused", "control_rev": 1},
        )  # fmt: skip
        assert (await site.control({"op": "resume", "rev": 2}))[1]["state"] == "running"
        assert (await site.control({"op": "prompt", "rev": 3, "text": "雪 \n☃"}))[0] == 200
        assert (await site.control({"op": "guidance", "rev": 9, "guidance": 2}))[0] == 200
        assert [(e.text, e.guidance) for e in site.controls.edits] == [("雪 ☃", 2)]
        assert (await site.control({"op": "stop", "rev": 10}))[1]["state"] == "stopping"

    served(tmp_path, test)


def test_replayed_and_out_of_order_requests_change_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.control({"op": "pause", "rev": 5})
        for rev in (5, 4, 1):
            status, answer = await site.control({"op": "resume", "rev": rev})
            assert status == 409 and answer["state"] == "paused" and answer["control_rev"] == 5
        site.take.finish(Ending("done"))
        site.take.join()
        status, answer = await site.control({"op": "resume", "rev": 6})
        assert (status, answer["state"], answer["control_rev"]) == (409, "done", 5)
        assert site.controls.state == "paused"

    served(tmp_path, test)


BAD_BODIES: list[object] = [
    b"", b"{", b"null", b"[]", b"1", b'"pause"', b"\xff\xfe", b"[" * 60_000, b'{"a":' * 9_000,
    b'{"op":"pause","rev":' + b"9" * 5000 + b"}", {}, {"op": "pause"}, {"rev": 1},
    {"op": "pause", "rev": True}, {"op": "pause", "rev": 1.0}, {"op": "pause", "rev": "1"},
    {"op": "pause", "rev": 0}, {"op": "pause", "rev": -1}, {"op": "pause", "rev": 2**53},
    {"op": "Pause", "rev": 1}, {"op": "__class__", "rev": 1}, {"op": ["pause"], "rev": 1},
    {"op": None, "rev": 1}, {"op": "pause", "rev": 1, "path": "/etc"}, {"op": "prompt", "rev": 1},
    {"op": "prompt", "rev": 1, "text": ""}, {"op": "prompt", "rev": 1, "text": " \n"},
    {"op": "prompt", "rev": 1, "text": "x" * 8193}, {"op": "prompt", "rev": 1, "text": ["x"]},
    b'{"op":"prompt","rev":1,"text":"\\ud800"}', {"op": "guidance", "rev": 1},
    {"op": "guidance", "rev": 1, "guidance": 30.1}, {"op": "guidance", "rev": 1, "guidance": -1},
    {"op": "guidance", "rev": 1, "guidance": "2"}, {"op": "guidance", "rev": 1, "guidance": True},
    b'{"op":"guidance","rev":1,"guidance":NaN}', b'{"op":"guidance","rev":1,"guidance":1e999}',
    b'{"op":"guidance","rev":1,"guidance":1' + b"0" * 400 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: str(body)[:40])
def test_a_bad_body_is_400_with_one_sentence_and_no_effect(tmp_path: Path, body: object) -> None:
    async def test(site: Site) -> None:
        status, answer = await site.control(body)
        assert status == 400 and answer["error"].endswith(".")
        assert site.controls.revision == 0
        assert site.take.control_rev == 0

    served(tmp_path, test)


def test_a_body_too_large_is_413_however_its_size_is_told(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert (await site.control(b" " * 65_537))[0] == 413

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 10_000

        async with site.page.post(f"{site.path}/control", data=pieces(), headers=JSON) as answer:
            assert answer.status == 413

    served(tmp_path, test)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/json-seq"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "nonsense"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[half"}, 403),
        ({"Origin": "HOST", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "HOST", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
    ],
)
def test_only_json_from_our_own_pages_is_taken(
    tmp_path: Path, headers: dict[str, str], expected: int
) -> None:
    async def test(site: Site) -> None:
        own = str(site.page.make_url("/")).rstrip("/")
        sent = {name: own if value == "HOST" else value for name, value in headers.items()}
        status, _ = await site.control({"op": "pause", "rev": 1}, **sent)
        assert status == expected
        assert (site.controls.state == "paused") == (expected == 200)

    served(tmp_path, test)


def test_compressed_bodies_are_refused(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        bomb = gzip.compress(b" " * 10_000_000)
        assert (await site.control(bomb, **{"Content-Encoding": "gzip"}))[0] == 415

    served(tmp_path, test)


def test_a_page_finds_its_takes_again_and_nobody_elses(tmp_path: Path) -> None:
    async def attach(site: Site, body: object) -> tuple[int, Any]:
        async with site.page.post("/longtake/attach", json=body) as answer:
            return answer.status, await answer.json()

    async def test(site: Site) -> None:
        assert await attach(site, {"client_id": "page"}) == (200, {"takes": [
            {"take": site.take.token, "node_id": "7", "display_node_id": "7",
             "prompt_id": "prompt"},
        ]})  # fmt: skip
        assert await attach(site, {"client_id": "other"}) == (200, {"takes": []})
        for bad in ({}, {"client_id": None}, {"client_id": ""}, {"client_id": "x" * 257}, []):
            assert (await attach(site, bad))[0] == 400

    served(tmp_path, test)


def test_an_evicted_take_says_plainly_that_it_is_gone(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.takes.reset()
        for path in (site.path, f"{site.path}/chunks/0"):
            async with site.page.get(path) as answer:
                assert answer.status == 404
                assert "run the workflow again" in (await answer.json())["error"]
        assert (await site.control({"op": "pause", "rev": 1}))[0] == 404

    served(tmp_path, test)


def test_200_clients_at_once_all_get_their_bytes(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async def fetch(client: int) -> bytes:
            async with site.page.get(f"{site.path}/chunks/{client % 3}") as answer:
                return await answer.read()

        async def ask(client: int) -> int:
            return (await site.control({"op": "resume", "rev": client + 1}))[0]

        fetched, asked = await asyncio.gather(
            asyncio.gather(*(fetch(client) for client in range(200))),
            asyncio.gather(*(ask(client) for client in range(200))),
        )
        blobs = [site.take.blob(seq) for seq in range(3)]
        expected = [blob.read() for blob in blobs if blob]
        assert all(content == expected[i % 3] for i, content in enumerate(fetched))
        assert set(asked) <= {200, 409} and asked.count(200) >= 1
        assert site.take.control_rev == 200

    served(tmp_path, test, limits=Limits(ram_bytes=1))


def test_routes_match_the_paths_of_the_contract(tmp_path: Path) -> None:
    takes = Takes(lambda: tmp_path)
    found = {(r.method, r.path) for r in take_routes(takes) if isinstance(r, web.RouteDef)}
    take = "/longtake/takes/{take:[A-Za-z0-9_-]{1,64}}"
    assert found == {
        ("GET", take), ("GET", take + "/chunks/{seq:[0-9]{1,6}}"), ("POST", take + "/control"),
        ("POST", "/longtake/attach"),
    }  # fmt: skip


def test_the_page_is_told_of_every_chunk_over_its_websocket(tmp_path: Path) -> None:
    async def run() -> list[tuple[str, Any]]:
        async with TestClient(TestServer(player_server(tmp_path))) as page:
            async with page.ws_connect("/ws?clientId=mine") as socket:
                fields = {"client_id": "mine", "frames": 24, "chunk_s": 0, "first_s": 0}
                async with page.post("/fake/run", json=fields) as answer:
                    token = (await answer.json())["take"]
                told: list[tuple[str, Any]] = []
                while not told or told[-1][1].get("state") != "done":
                    message = await socket.receive_json(timeout=30)
                    told.append((message["type"], message["data"]))
            assert all(data["take"] == token for _, data in told)
            return told

    told = asyncio.run(run())
    chunks = [data for name, data in told if name == "longtake.take.chunk"]
    assert [(c["seq"], c["first_frame"], c["count"]) for c in chunks] == [(0, 0, 12), (1, 12, 12)]


# Anything at all, without a 500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
nearly_right = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["pause", "resume", "stop", "prompt", "guidance"]) | json_values,
        "rev": st.integers(-5, 2**60) | json_values,
    },
    optional={"text": json_values, "guidance": json_values, "more": json_values},
)
bodies = st.binary(max_size=200) | (nearly_right | json_values).map(
    lambda value: json.dumps(value).encode()
)
plain = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
headers = st.dictionaries(
    st.sampled_from([
        "Content-Type", "Origin", "Sec-Fetch-Site", "Range", "If-None-Match", "Accept",
        "If-Modified-Since", "Referer", "X-Forwarded-Host",
    ]),
    plain | st.sampled_from(["application/json", "same-origin", "bytes=0-1"]),
    max_size=4,
)  # fmt: skip
parts = st.sampled_from(
    ["longtake", "takes", "TOKEN", "chunks", "control", "attach", "0", "2", "..", "%2e", "api", ""]
)
paths = st.lists(parts | plain, max_size=6).map(lambda names: "/" + "/".join(names)) | (
    st.sampled_from([
        "/longtake/takes/TOKEN", "/longtake/takes/TOKEN/chunks/1", "/longtake/attach",
        "/longtake/takes/TOKEN/control", "/api/longtake/takes/TOKEN/control",
    ])
)  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that lives on a loop of its own for all examples."""
    loop = asyncio.new_event_loop()
    opened = site(tmp_path_factory.mktemp("temp"))
    running = loop.run_until_complete(opened.__aenter__())
    yield loop, running
    loop.run_until_complete(opened.__aexit__(None, None, None))
    loop.close()


@examples(120)
@given(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE"]), paths, headers, bodies)
def test_no_request_is_answered_by_a_500(
    fuzzed: tuple[asyncio.AbstractEventLoop, Site],
    method: str,
    path: str,
    sent: dict[str, str],
    body: bytes,
) -> None:
    loop, site = fuzzed
    raw = quote(path.replace("TOKEN", site.take.token), safe="/%.~")
    url = site.page.make_url("/").with_path(raw, encoded=True)

    async def ask() -> int:
        async with site.page.session.request(
            method, url, headers=sent, data=body, allow_redirects=False
        ) as answer:
            return answer.status

    assert loop.run_until_complete(ask()) < 500


def test_packed_sizes_are_big_endian() -> None:
    packed = numbered_chunk()
    assert struct.unpack(">4sHHI", packed[:12]) == (b"LTF1", 32, 32, 4)
