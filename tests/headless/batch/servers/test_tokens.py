"""A server behind a token gets the token with every request, and nobody else sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession, web
from click.testing import CliRunner, Result

from longtake.benchmarks._attack.instant_comfyui import WORKFLOW, InstantComfyUI
from longtake.headless import cli
from longtake.headless.batch.servers import remote
from longtake.headless.batch.servers.address import driver_url, server_url
from longtake.headless.batch.servers.client import Client, ServerLost

TOKEN = "s3cret+/="
QUERY = "?token=s3cret%2B%2F%3D"
HANDLERS = ("greet", "specs", "prompt", "history", "queue", "accept", "view")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def behind_a_token(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("token") != TOKEN:
            return web.Response(status=403, text="Forbidden")
        return await handler(request)

    return answer


def guarded_server() -> InstantComfyUI:
    server = InstantComfyUI()
    for name in HANDLERS:
        setattr(server, name, behind_a_token(getattr(server, name)))
    return server


def run(folder: Path, address: str) -> Result:
    (folder / "w.json").write_text(json.dumps(WORKFLOW))
    command = ["batch", str(folder / "w.json"), "--server", address, "--out", str(folder / "o")]
    return CliRunner().invoke(cli.main, command)


def test_a_row_runs_behind_a_token_that_no_file_holds(tmp_path: Path) -> None:
    with guarded_server() as server:
        result = run(tmp_path, f"{server.url}/{QUERY}")
    assert result.exit_code == 0, result.output
    files = [path for path in (tmp_path / "o").rglob("*") if path.is_file()]
    assert any(path.name == "a.png" for path in files)
    told = [result.output, *(path.read_text() for path in files)]
    assert not any("s3cret" in text for text in told)


def test_without_its_token_the_sentence_says_where_to_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GREETING_PAUSE_S", 0.01)
    with guarded_server() as server:
        result = run(tmp_path, server.url)
    assert result.exit_code == 1
    assert "needs a password (403)" in result.output
    assert "or a token as http://HOST?token=TOKEN." in result.output


def test_the_progress_of_a_server_comes_by_its_token_too() -> None:
    messages: list[Mapping[str, Any]] = []

    async def socket(request: web.Request) -> web.StreamResponse:
        assert request.query["clientId"] == "me"
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.send_json({"type": "status"})
        await answer.close()
        return answer

    async def listen() -> None:
        application = web.Application()
        application.add_routes([web.get("/ws", behind_a_token(socket))])
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with ClientSession() as session:
                url = server_url(f"127.0.0.1:{runner.addresses[0][1]}{QUERY}")
                await Client(session, url, "me").listen(messages.append)
        finally:
            await runner.cleanup()

    asyncio.run(listen())
    assert messages == [{"type": "status"}]


def test_a_server_that_is_no_web_server_does_not_tell_the_token() -> None:
    async def answer_badly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 abc\r\n\r\n")
        writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(answer_badly, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, ClientSession() as session:
            client = Client(session, server_url(f"127.0.0.1:{port}{QUERY}"), "me")
            with pytest.raises(ServerLost, match=r"^Bad status line \(400\)$"):
                await client.greet()

    asyncio.run(ask())


def test_a_server_that_takes_no_connection_does_not_tell_the_token() -> None:
    class Session:
        async def request(self, method: str, url: object, **options: object) -> None:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {url}")

    async def ask() -> None:
        session: Any = Session()
        with pytest.raises(ServerLost, match=r"^no connection in time$"):
            await Client(session, server_url(f"127.0.0.1{QUERY}"), "me").greet()

    asyncio.run(ask())


def test_a_driver_takes_a_key_and_no_token() -> None:
    assert str(driver_url(f"127.0.0.1:8290/{QUERY}")) == "http://127.0.0.1:8290/"
