"""`longtake batch` beside servers that lie, refuse or hang: their rows are done elsewhere."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import ClientTimeout, web
from click.testing import CliRunner, Result

from longtake.benchmarks._attack.instant_comfyui import ENTRY, WORKFLOW, InstantComfyUI
from longtake.benchmarks._attack.lying_servers import (
    BAD_ENTRIES,
    LIES,
    ODD_ENTRIES,
    lying_server,
)
from longtake.headless import cli
from longtake.headless.batch.record import Record, Records
from longtake.headless.batch.servers import client, remote, silence, watch, worker

ROWS = 6


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.02)
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(worker, "MAX_PAUSE_S", 0.02)
    monkeypatch.setattr(remote, "GREETING_PAUSE_S", 0.01)
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", ClientTimeout(total=0.3))
    monkeypatch.setattr(silence, "SILENT_S", 1)
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


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_set_aside(tmp_path: Path, lie: str) -> None:
    liar = lying_server(lie)
    output, rows, sound = beside_a_sound_one(tmp_path, liar)
    assert {row.server for row in rows} == {sound}
    assert f"{liar.url} is " in output or lie in ("history is cut",)


@pytest.mark.parametrize("lie", BAD_ENTRIES)
def test_a_server_with_a_bad_history_is_set_aside(tmp_path: Path, lie: str) -> None:
    liar = lying_server(lie)
    output, rows, sound = beside_a_sound_one(tmp_path, liar)
    assert {row.server for row in rows} == {sound}
    assert output.count(f"{liar.url} is set aside: ") == 1


@pytest.mark.parametrize("oddity", ODD_ENTRIES)
def test_what_only_describes_a_row_harms_nothing(tmp_path: Path, oddity: str) -> None:
    with lying_server(oddity) as odd:
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


def test_a_login_page_is_no_file_of_a_row(tmp_path: Path) -> None:
    """A proxy whose login has expired answers 200 to everything."""
    server = InstantComfyUI()

    async def sign_in(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<!doctype html>Sign in", content_type="text/html")

    server.view = sign_in  # type: ignore[method-assign]
    with server:
        result, rows = run(tmp_path, server)
    assert result.exit_code == 1
    assert "sends a web page for the file a.png; does a login page answer for it?" in result.output
    assert {row.state for row in rows} == {"waiting"} and not any(row.files for row in rows)


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
