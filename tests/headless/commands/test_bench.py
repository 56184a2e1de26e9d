"""`longtake bench` finds a file that cannot be written before the suite runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from longtake.benchmarks import core
from longtake.headless.cli import main


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The files of the suites that have run."""
    files: list[Path | None] = []
    monkeypatch.setattr(core, "main", files.append)
    return files


def bench(*words: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, words)])


def test_a_file_that_cannot_be_written_is_found_before_any_work(
    tmp_path: Path, runs: list[Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    told = [bench("core", "--json", tmp_path), bench("core", "--json", tmp_path / "file" / "x")]
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    told.append(bench("core", "--json", tmp_path / "file"))
    sentences = ["is a folder; name a file", "choose another with --json", "is write-protected"]
    for result, sentence in zip(told, sentences, strict=True):
        assert result.exit_code == 1 and sentence in result.stderr
    assert runs == []


def test_a_file_in_a_new_folder_is_the_suites(tmp_path: Path, runs: list[Path | None]) -> None:
    target = tmp_path / "new" / "core.json"
    assert bench("core", "--json", target).exit_code == 0 and runs == [target]


def test_a_file_without_a_suite_is_wrong_usage(tmp_path: Path) -> None:
    assert bench("--json", tmp_path / "x.json").exit_code == 2
