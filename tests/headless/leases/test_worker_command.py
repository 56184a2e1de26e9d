"""`longtake worker` and the options of a driver: one sentence for what cannot be used."""

from __future__ import annotations

import asyncio
import importlib
import io
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from longtake.headless.batch.record import QUEUED, Record, Records
from longtake.headless.cli import main
from longtake.headless.leases.driver.driver import run_on_workers
from longtake.headless.leases.driver.driving import Driving
from longtake.headless.leases.driver.ray_cluster import describe_start

KEY = "a-key-of-this-test-0123"


@pytest.fixture(autouse=True)
def _without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LONGTAKE_KEY", raising=False)


@pytest.mark.parametrize(
    ("options", "key", "sentence"),
    [
        (["--join", "x:1"], "short", "LONGTAKE_KEY holds no key of 16 or more letters"),
        (["--join", "x:1"], None, "Give --key-file FILE or set LONGTAKE_KEY"),
        (["--join", "x:1", "--key-file", "none.txt"], None, "none.txt cannot be read (No such"),
        (["--join", "x:1", "--key-file", os.devnull], None, "holds no key of 16 or more letters"),
        (["--join", "x:1", "--key-file", sys.executable], None, "is no text"),
        (["--join", "x:1", "--server", "127.0.0.1:1"], KEY, "Failed: http://127.0.0.1:1 does not"),
    ],
)
def test_a_worker_says_what_it_cannot_use(
    options: list[str], key: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is not None:
        monkeypatch.setenv("LONGTAKE_KEY", key)
    result = CliRunner().invoke(main, ["worker", *options])
    assert result.exit_code == (2 if "LONGTAKE_KEY" in sentence else 1)
    assert sentence in result.output
    assert key is None or key not in result.output


def test_a_key_file_without_an_end_is_not_read_to_memorys_end(tmp_path: Path) -> None:
    endless = tmp_path / "key"
    with endless.open("wb") as file:
        file.write(b"a" * 4097)
        file.truncate(2**40)
    result = CliRunner().invoke(main, ["worker", "--join", "x:1", "--key-file", str(endless)])
    assert result.exit_code == 1 and "is larger than a key (4096 bytes)" in result.output


@pytest.mark.parametrize("server", [[], ["--server", "127.0.0.1:1"]])
def test_a_worker_whose_folder_cannot_be_written_names_its_option(
    server: list[str], tmp_path: Path
) -> None:
    work = tmp_path / "file" / "work"
    work.parent.touch()
    arguments = ["worker", "--join", "127.0.0.1:1", "--work", str(work), *server]
    result = CliRunner().invoke(main, arguments, env={"LONGTAKE_KEY": KEY})
    assert result.exit_code == 1
    assert f"Cannot write into the folder {work}" in result.output
    assert "choose another with --work." in result.output


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--serve", "nowhere"], 2, "'nowhere' is not HOST:PORT"),
        (["--serve", "1", "--server", "x"], 2, "Give --server, or --serve or --ray"),
        (["--key-file", "k"], 2, "--key-file needs --serve or --ray"),
        (["--lease", "60"], 2, "--lease needs --serve or --ray"),
        (["--serve", "1", "--workers", "2"], 2, "--workers needs --ray"),
        (["--patience", "9"], 2, "--patience needs --server"),
        (["--server", "x:1", "--comfy", "x"], 2, "Give --server or --comfy"),
    ],
)
def test_a_driver_says_what_it_cannot_use(
    options: list[str], code: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGTAKE_KEY", KEY)
    (tmp_path / "w.json").write_text("{}")
    arguments = ["batch", str(tmp_path / "w.json"), "--out", str(tmp_path / "o"), *options]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, sentence in result.output) == (code, True), result.output


@pytest.mark.parametrize(
    ("serve", "ray", "own_key", "invites"),
    [
        ("127.0.0.1:0", None, True, True),
        ("127.0.0.1:0", "auto", True, True),
        (None, "auto", True, False),
        (None, "auto", False, False),
        ("127.0.0.1:0", "auto", False, False),
    ],
)
def test_a_driver_invites_workers_only_where_they_can_have_the_key(
    serve: str | None, ray: str | None, own_key: bool, invites: bool, tmp_path: Path
) -> None:
    """A cluster's workers alone know a key that is made for one run."""
    driving = Driving(serve, tmp_path / "key.txt" if own_key else None, 60.0, ray)
    shown, opened = io.StringIO(), []
    asyncio.run(
        run_on_workers(
            [], Records(tmp_path), driving.place("127.0.0.1"), KEY, Console(file=shown),
            opened.append,
        )
    )  # fmt: skip
    assert len(opened) == 1
    assert ("Workers join with" in shown.getvalue()) == invites


@pytest.mark.parametrize(("option", "goes_on"), [("--serve", True), ("--ray", False)])
def test_an_interrupted_driver_says_which_workers_go_on(
    option: str, goes_on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        [records] = [each for each in arguments if isinstance(each, Records)]
        records.rows = [Record(1, "k", "w.json", {}, "001-w", QUEUED, server="ray-0-12")]
        raise KeyboardInterrupt

    batch = importlib.import_module("longtake.headless.commands.batch")  # cli holds its command
    monkeypatch.setattr(batch, "drive", stop)
    workflow = tmp_path / "w.json"
    workflow.write_text("{}")
    arguments = ["batch", str(workflow), option, "127.0.0.1:1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert "Interrupted." in result.output
    assert ("Rows queued on ray-0-12 continue there." in result.output) == goes_on


def test_the_number_of_workers_on_a_cluster_is_told_in_words() -> None:
    assert describe_start(1, 2, "CPU") == "1 worker starts on the Ray cluster."
    expected = "2 workers start on the Ray cluster: it has 1 GPU, so 1 waits."
    assert describe_start(2, 1, "GPU") == expected


def test_a_worker_with_a_server_starts_no_core_of_its_own() -> None:
    arguments = ["worker", "--join", "x:1", "--server", "x:2", "--comfy", "x"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "Give --server or --comfy" in result.output
    elsewhere = {"LONGTAKE_KEY": "short", "COMFYUI_PATH": "x"}  # which other commands use
    result = CliRunner().invoke(main, arguments[:-2], env=elsewhere)
    assert result.exit_code == 2 and "LONGTAKE_KEY holds no key" in result.output
