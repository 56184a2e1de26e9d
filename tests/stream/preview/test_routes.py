"""The preview's routes over HTTP: what they serve, to whom, and to how many at once."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from longtake.stream.preview.messages import Origin, Shot
from longtake.stream.preview.routes import take_routes
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Limits, Takes
from longtake.tests.support.player_server import player_server
from longtake.tests.support.stream.take_site import Site, numbered_chunk, served


def test_manifest_and_chunks_are_served_with_and_without_the_api_prefix(tmp_path: Path) -> None:
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


def test_chunks_on_disk_are_served_and_dropped_ones_are_410(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        answers = [await site.status(f"{site.path}/chunks/{seq}") for seq in range(4)]
        assert answers == [410, 200, 200, 404]
        gone = [chunk["bytes"] == 0 for chunk in site.take.manifest()["chunks"]]
        assert gone == [True, False, False] and site.takes.ram_bytes == 0

    packed = len(numbered_chunk())
    served(tmp_path, test, limits=Limits(ram_bytes=10, disk_bytes=packed * 5 // 2))


@pytest.mark.parametrize(
    "name",
    [
        "..", "../..", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "....//", "%00", "a%00b", "\\..\\",
        "%5c..%5c", "C:%5cwindows", "/etc/passwd", "~root", "x" * 65, "x" * 5000, "%ff%fe", "a b",
        "%f0%9f%8e%ac", "file:%2f%2f%2fetc", "{take}", "", ".", "null", "0", "-1",
    ],
)  # fmt: skip
def test_no_token_leads_to_a_file(tmp_path: Path, name: str) -> None:
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


def test_a_take_of_days_has_chunks_beyond_a_million(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob_of = Take.blob
    monkeypatch.setattr(Take, "blob", lambda take, seq: blob_of(take, seq % 1_000_000))

    async def test(site: Site) -> None:
        answers = [await site.status(f"{site.path}/chunks/{seq}") for seq in (1, 1_000_001)]
        assert answers == [200, 200]

    served(tmp_path, test)


@pytest.mark.parametrize("seq", ["999999", "1000000", "-1", "1.5", "1e3", "٣", "0x1", "00000000"])
def test_an_unknown_chunk_number_is_404(tmp_path: Path, seq: str) -> None:
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


def test_a_listed_take_tells_its_workflow_before_its_manifest_comes(tmp_path: Path) -> None:
    """A node of another workflow may have the same id; refined frames have no node."""

    async def test(site: Site) -> None:
        first = Origin("7", "7", "prompt", "workflow", "page")
        for origin in (first, replace(first, refines="rough")):
            site.takes.create(Shot(16.0, 32, 32), origin, lambda *_: None)
        async with site.page.post("/longtake/attach", json={"client_id": "page"}) as answer:
            listed = (await answer.json())["takes"]
        assert [(each["workflow_id"], each["refines"]) for each in listed] == [
            (None, None), ("workflow", None), ("workflow", "rough"),
        ]  # fmt: skip

    served(tmp_path, test)


def test_a_page_finds_its_own_takes_only(tmp_path: Path) -> None:
    async def attach(site: Site, body: object) -> tuple[int, Any]:
        async with site.page.post("/longtake/attach", json=body) as answer:
            return answer.status, await answer.json()

    async def test(site: Site) -> None:
        assert await attach(site, {"client_id": "page"}) == (200, {"takes": [
            {"take": site.take.token, "node_id": "7", "display_node_id": "7",
             "prompt_id": "prompt", "workflow_id": None, "refines": None},
        ]})  # fmt: skip
        assert await attach(site, {"client_id": "other"}) == (200, {"takes": []})
        for bad in ({}, {"client_id": None}, {"client_id": ""}, {"client_id": "x" * 257}, []):
            assert (await attach(site, bad))[0] == 400

    served(tmp_path, test)


def test_an_evicted_take_is_reported_in_one_sentence(tmp_path: Path) -> None:
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
        assert site.take.controls.rev == 200

    served(tmp_path, test, limits=Limits(ram_bytes=1))


def test_routes_match_the_paths_of_the_contract(tmp_path: Path) -> None:
    takes = Takes(lambda: tmp_path)
    found = {(r.method, r.path) for r in take_routes(takes) if isinstance(r, web.RouteDef)}
    take = "/longtake/takes/{take:[A-Za-z0-9_-]{1,64}}"
    assert found == {
        ("GET", take), ("GET", take + "/chunks/{seq:0|[1-9][0-9]{0,11}}"),
        ("POST", take + "/control"),
        ("GET", take + "/drive"), ("POST", take + "/drive"), ("POST", take + "/input"),
        ("POST", "/longtake/attach"), ("GET", "/longtake/alive"),
    }  # fmt: skip


def test_the_page_hears_of_every_chunk_over_its_websocket(tmp_path: Path) -> None:
    async def run() -> list[tuple[str, Any]]:
        async with TestClient(TestServer(player_server(tmp_path))) as page:
            async with page.ws_connect("/ws?clientId=mine") as socket:
                fields = {"client_id": "mine", "frames": 24, "chunk_s": 0, "first_s": 0}
                async with page.post("/fake/run", json=fields) as answer:
                    token = (await answer.json())["take"]
                told: list[tuple[str, Any]] = []
                while not told or told[-1][1].get("state") != "done":
                    message = await socket.receive_json(timeout=60)
                    told.append((message["type"], message["data"]))
            assert all(data["take"] == token for _, data in told)
            return told

    told = asyncio.run(run())
    chunks = [data for name, data in told if name == "longtake.take.chunk"]
    assert [(c["seq"], c["first_frame"], c["count"]) for c in chunks] == [(0, 0, 12), (1, 12, 12)]


def test_packed_sizes_are_big_endian() -> None:
    packed = numbered_chunk()
    assert struct.unpack(">4sHHI", packed[:12]) == (b"LTF1", 32, 32, 4)
