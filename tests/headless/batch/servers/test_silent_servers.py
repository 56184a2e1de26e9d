"""A server that takes rows and is then silent is left after two silences; a slow one is not."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import ClientTimeout, web
from click.testing import CliRunner

from longtake.benchmarks._attack.instant_comfyui import WORKFLOW, InstantComfyUI
from longtake.benchmarks._attack.lying_servers import lying_server
from longtake.headless import cli
from longtake.headless.batch.record import Record, Records
from longtake.headless.batch.servers import client, silence, watch, worker

ROWS, SILENT_S = 4, 0.2
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HANGING = {
    "history hangs": "history", "prompts hang": "prompt", "the queue hangs": "queue",
    "files hang": "view", "history stops after a byte": "history",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.02)
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(worker, "MAX_PAUSE_S", 0.02)
    monkeypatch.setattr(silence, "SILENT_S", SILENT_S)
    for name in ("TIMEOUT", "ANSWER_TIMEOUT"):
        monkeypatch.setattr(client, name, ClientTimeout(total=None, sock_read=8 * SILENT_S))


class Asked:
    """Counts what a server is asked, and may let it stop for a while before an answer."""

    def __init__(
        self, server: InstantComfyUI, before: Callable[[str, int], Awaitable[None]]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.before = before
        for name in ("greet", "prompt", "history", "queue", "view"):
            setattr(server, name, self._counting(name, getattr(server, name)))

    def _counting(self, name: str, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.counts[name] += 1
            await self.before(name, self.counts[name])
            return await handler(request)

        return handle


async def at_once(name: str, count: int) -> None:
    """Answer without a pause."""


def run(folder: Path, *servers: InstantComfyUI) -> tuple[str, list[Record]]:
    """The output and the rows of a batch on these servers, the first of which gets rows first."""
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        (folder / "w.json").write_text(json.dumps(WORKFLOW))
        (folder / "t.jsonl").write_text("".join(f'{{"1.seed": {row}}}\n' for row in range(ROWS)))
        files = ["--workflow", str(folder / "w.json"), "--params", str(folder / "t.jsonl")]
        addresses = [part for server in servers for part in ("--server", server.url)]
        command = ["batch", *files, *addresses, "--out", str(folder / "o"), "--patience", "5"]
        result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 0, result.output
    records = Records(folder / "o")
    records.resume()
    return result.output, records.rows


@pytest.mark.parametrize("kind", HANGING)
def test_a_second_silence_in_a_row_sets_a_server_aside(tmp_path: Path, kind: str) -> None:
    silent, sound = lying_server(kind), InstantComfyUI()
    asked = Asked(silent, at_once)
    output, rows = run(tmp_path, silent, sound)
    assert {row.server for row in rows} == {sound.url}
    route = HANGING[kind]
    reason = f"it greets but twice in a row gave no answer to /{route}"
    assert f"{silent.url} is set aside: {reason}" in " ".join(output.split())
    assert asked.counts[route] <= 4  # two lanes, two silences


def test_a_server_that_is_busy_as_a_whole_is_not_set_aside(tmp_path: Path) -> None:
    """ComfyUI answers nothing while a node holds the interpreter: its greeting is late too."""

    async def hold_the_interpreter(name: str, count: int) -> None:
        if name == "history" and count % 2:
            time.sleep(3 * SILENT_S)

    slow = InstantComfyUI()
    Asked(slow, hold_the_interpreter)
    output, rows = run(tmp_path, slow)
    assert {row.state for row in rows} == {"done"} and "set aside" not in output


@pytest.mark.parametrize("route", ["history", "prompt", "view"])
def test_a_single_silence_is_forgiven(tmp_path: Path, route: str) -> None:
    async def be_silent_now_and_then(name: str, count: int) -> None:
        if name == route and count in (1, 4):
            await asyncio.sleep(5 * SILENT_S)

    moody = InstantComfyUI()
    Asked(moody, be_silent_now_and_then)
    output, rows = run(tmp_path, moody)
    assert {row.state for row in rows} == {"done"} and "set aside" not in output


def test_a_server_that_answers_slowly_but_in_time_is_not_set_aside(tmp_path: Path) -> None:
    async def think(name: str, count: int) -> None:
        if name != "greet":
            await asyncio.sleep(SILENT_S / 2)

    slow = InstantComfyUI()
    Asked(slow, think)
    output, rows = run(tmp_path, slow)
    assert {row.state for row in rows} == {"done"} and "set aside" not in output
