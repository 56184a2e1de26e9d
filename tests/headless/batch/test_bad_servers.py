"""`longtake batch` beside servers that lie, refuse or hang: their rows are done elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientTimeout, web
from click.testing import CliRunner, Result

from longtake.headless import cli
from longtake.headless.batch import client, remote, watch, worker
from longtake.headless.batch.record import Record, Records
from longtake.tests.support.fake_comfyui import WORKFLOW
from longtake.tests.support.instant_comfyui import ENTRY, InstantComfyUI

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ROWS = 6


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.02)
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(worker, "MAX_PAUSE_S", 0.02)
    monkeypatch.setattr(remote, "GREETING_PAUSE_S", 0.01)
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", ClientTimeout(total=0.3))
    monkeypatch.setattr(client, "MAX_MESSAGE_BYTES", 1 << 16)
    monkeypatch.setattr(client, "MAX_FILE_BYTES", 1 << 16)


def run(folder: Path, *servers: InstantComfyUI) -> tuple[Result, list[Record]]:
    (folder / "w.json").write_text(json.dumps(WORKFLOW))
    (folder / "t.jsonl").write_text("".join(f'{{"1.seed": {row}}}\n' for row in range(ROWS)))
    there = [part for server in servers for part in ("--server", server.url)]
    files = ["--workflow", str(folder / "w.json"), "--params", str(folder / "t.jsonl")]
    command = ["batch", *files, *there, "--out", str(folder / "o"), "--patience", "2"]
    result = CliRunner().invoke(cli.main, command)
    records = Records(folder / "o")
    records.resume()
    assert "Traceback" not in result.output and not isinstance(result.exception, OSError)
    return result, records.rows


def beside_a_sound_one(folder: Path, liar: InstantComfyUI) -> tuple[str, list[Record], str]:
    """Run with the liar first; return the output, the rows and the sound server's address."""
    with ExitStack() as stack:
        sound = stack.enter_context(InstantComfyUI())
        stack.enter_context(liar)
        result, rows = run(folder, liar, sound)
    assert result.exit_code == 0, result.output
    assert [row.state for row in rows] == ["done"] * ROWS
    return result.output, rows, sound.url


def answering(content: Any, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        text = content if isinstance(content, str) else json.dumps(content)
        return web.Response(text=text, status=status)

    return handler


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(10_000):
        await answer.write(b"x" * 4096)
    return answer


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


async def drop_connection(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def shown(**file: Any) -> dict[str, Any]:
    return {**ENTRY, "outputs": {"2": {"images": [{"type": "output", "subfolder": "", **file}]}}}


LIES: dict[str, dict[str, Handler]] = {
    "a queue of numbers": {"history": answering({}), "queue": answering({"queue_running": [1]})},
    "no queue": {"history": answering({}), "queue": answering({})},
    "a queue that is a list": {"history": answering({}), "queue": answering([])},
    "amnesia": {"history": answering({})},
    "refuses prompts": {"prompt": answering("no", 500)},
    "forbids prompts": {"prompt": answering({}, 403)},
    "prompts are HTML": {"prompt": answering("<html>")},
    "400 without reason": {"prompt": answering("[]", 400)},
    "another prompt id": {"prompt": answering({"prompt_id": "x"})},
    "no history": {"history": answering("x", 500)},
    "history is a list": {"history": answering([])},
    "history is deep": {"history": answering("[" * 50_000)},
    "history has no end": {"history": endless},
    "history hangs": {"history": hanging},
    "history is cut": {"history": drop_connection},
    "prompts hang": {"prompt": hanging},
    "node types of its own": {"specs": answering({"Count": {"input": 3}, "Save": []})},
    "a web site": {"greet": answering("<html>")},
    "no files": {"view": answering("", 404)},
    "files have no end": {"view": endless},
}
BAD_ENTRIES: dict[str, Any] = {
    "a list": [],
    "outputs are a list": {**ENTRY, "outputs": [1]},
    "a node shows a number": {**ENTRY, "outputs": {"2": 3}},
    "success without outputs": {**ENTRY, "outputs": {}},
    "status is a word": {**ENTRY, "status": "fine"},
    "status is a number": {**ENTRY, "status": {"status_str": 7}},
    "a file is called 5": shown(filename=5),
    "a file has half a character": shown(filename="\ud800"),
    "a folder is a list": shown(filename="a", subfolder=[1]),
    "frames of any pattern": shown(pattern="%s%s%d", count=2),
    "frames of a wide pattern": shown(pattern="%999999999d", count=2),
    "a trillion frames": shown(pattern="%d.png", count=10**12),
    "some frames": shown(pattern="%d.png", count="3"),
}
ODD_ENTRIES: dict[str, Any] = {
    "messages of numbers": {**ENTRY, "status": {"messages": [1, [2], ["a", 3], [[], {}]]}},
    "messages are a word": {**ENTRY, "status": {"messages": "x"}},
    "times are words": {**ENTRY, "status": {"messages": [["execution_start", {"timestamp": "x"}]]}},
    "times are huge": {
        **ENTRY, "status": {"messages": [["execution_start", {"timestamp": 10**400}]]}
    },
    "a report that is no JSON": {"outputs": {"2": {**shown(filename="a")["outputs"]["2"],
                                                   "longtake_report": ["{", 5]}}},
    "a report of formulas": {"outputs": {"2": {**shown(filename="a")["outputs"]["2"],
                                               "longtake_report": ['{"frames": "=1"}']}}},
    "a long name": shown(filename="x" * 300 + ".png"),
    "a long name in letters of four bytes": shown(filename="\U0001f600" * 200 + ".png"),
    "a role of its own": shown(filename="a.png", role={"x": 1}),
    "names for Windows": shown(filename="a?<b>|*.png. . "),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_set_aside(tmp_path: Path, lie: str) -> None:
    liar = InstantComfyUI()
    for name, handler in LIES[lie].items():
        setattr(liar, name, handler)
    output, rows, sound = beside_a_sound_one(tmp_path, liar)
    assert {row.server for row in rows} == {sound}
    assert f"{liar.url} is " in output or lie in ("history is cut",)


@pytest.mark.parametrize("lie", BAD_ENTRIES)
def test_a_server_with_a_bad_history_is_set_aside(tmp_path: Path, lie: str) -> None:
    liar = InstantComfyUI()
    liar.entry = lambda: BAD_ENTRIES[lie]  # type: ignore[method-assign]
    output, rows, sound = beside_a_sound_one(tmp_path, liar)
    assert {row.server for row in rows} == {sound}
    assert output.count(f"{liar.url} is set aside: ") == 1


@pytest.mark.parametrize("oddity", ODD_ENTRIES)
def test_what_only_describes_a_row_harms_nothing(tmp_path: Path, oddity: str) -> None:
    odd = InstantComfyUI()
    odd.entry = lambda: ODD_ENTRIES[oddity]  # type: ignore[method-assign]
    with odd:
        result, rows = run(tmp_path, odd)
    assert result.exit_code == 0, result.output
    assert all(row.state == "done" and len(row.files) == 1 for row in rows)
    assert all((tmp_path / "o" / row.files[0].path).exists() for row in rows)


def test_a_lone_server_that_lies_leaves_its_rows_to_the_next_run(tmp_path: Path) -> None:
    liar = InstantComfyUI()
    entries = [{**ENTRY, "outputs": {}}]
    liar.entry = lambda: entries[-1]  # type: ignore[method-assign]
    with liar:
        result, _ = run(tmp_path, liar)
        assert result.exit_code == 1 and f"{ROWS} left for the next run" in result.output
        entries.append(ENTRY)
        liar.queued.clear()
        result, rows = run(tmp_path, liar)
    assert result.exit_code == 0 and [row.state for row in rows] == ["done"] * ROWS


def test_a_file_and_a_folder_of_one_name_do_not_meet(tmp_path: Path) -> None:
    files = [
        {"filename": "a", "type": "output"},
        {"pattern": "%d.png", "count": 1, "subfolder": "a", "type": "output"},
        {"filename": "A", "type": "output"},
    ]
    odd = InstantComfyUI()
    odd.entry = lambda: {"outputs": {"2": {"images": files}}}  # type: ignore[method-assign]
    with odd:
        result, rows = run(tmp_path, odd)
    assert result.exit_code == 0, result.output
    names = [file.path.partition("/")[2] for file in rows[0].files]
    assert names == ["a", "a-frames/0.png", "A-2"]
