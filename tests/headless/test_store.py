"""`--store`: a shot goes on at another machine, and no message shows a password."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from longtake.headless.cli import main
from longtake.headless.console.options import store_option
from longtake.headless.runner import store_of_hosts
from longtake.stream.store.opening import VARIABLE
from longtake.tests.support.headless.real_batches import OTHERS, WORKFLOW


def run(out: Path, length: float, *options: str) -> dict[str, Any]:
    """Run the small example; return its report."""
    report = out.with_suffix(".json")
    changes = [part for change in (*OTHERS, f"5.length={length}") for part in ("--set", change)]
    places = ["--out", str(out), "--report", str(report)]
    result = CliRunner().invoke(main, ["run", str(WORKFLOW), *changes, *places, *options])
    assert result.exit_code == 0, result.output
    return json.loads(report.read_text())


def pictures(out: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(out.rglob("frame_*.png"))]


def test_a_shot_goes_on_at_another_machine_with_the_same_bits(tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    run(tmp_path / "one", 1.0, *store)
    resumed = run(tmp_path / "two", 2.0, *store)
    run(tmp_path / "alone", 2.0)
    assert resumed["resumed_from_chunk"] >= 1
    ours, theirs = pictures(tmp_path / "two"), pictures(tmp_path / "alone")
    assert len(ours) == len(theirs) > 0
    assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
    listing = CliRunner().invoke(
        main, ["rollouts", "list", "--json", "--out", str(tmp_path / "nowhere"), *store]
    )
    [rollout] = json.loads(listing.output)
    assert rollout["id"] == resumed["rollout_id"] and rollout["seconds"] >= 2


def test_a_store_that_cannot_be_used_is_refused_before_any_work(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    url = "nonsense://someone:pa55word@host/shots"
    arguments = ["run", str(WORKFLOW), "--out", str(tmp_path), "--store", url, "--debug"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "nonsense://***@host/shots" in result.output
    assert "pa55word" not in result.output and "someone" not in result.output
    assert not (tmp_path / "longtake").exists()


def test_a_relative_store_is_named_whole_for_workers_in_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = store_option(click.command()(lambda store: click.echo(store)))
    result = CliRunner().invoke(command, ["--store", "shots"])
    assert result.output.strip() == str(tmp_path / "shots")


def test_the_variable_is_the_default_and_hosts_see_what_the_command_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "unmounted" / "store"))
    result = CliRunner().invoke(main, ["run", str(WORKFLOW), "--out", str(tmp_path)])
    assert result.exit_code == 1 and "does the folder above it exist" in result.output
    with store_of_hosts("chosen"):
        assert os.environ[VARIABLE] == "chosen"
    with store_of_hosts(None):
        assert VARIABLE not in os.environ
    assert os.environ[VARIABLE].endswith("store")


@pytest.mark.parametrize(
    "arguments",
    [
        ["batch", str(WORKFLOW), "--serve", "1"],
        ["batch", str(WORKFLOW), "--server", "http://127.0.0.1:1"],
        ["worker", "--join", "http://127.0.0.1:1", "--server", "http://127.0.0.1:2"],
    ],
)
def test_who_runs_the_rows_is_given_the_store(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [*arguments, "--store", str(tmp_path)])
    assert result.exit_code == 2 and ("LONGTAKE_STORE" in result.output)
