"""The result tables are whole: what a disk does not take leaves the earlier ones."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from longtake.errors import StorageError
from longtake.headless.batch import results
from longtake.headless.batch.record import DONE, Record, SavedFile
from longtake.tests.support.clips import write_clip

FILES = (results.CSV_FILE, results.HTML_FILE)


def row(state: str) -> Record:
    return Record(1, "key1", "w.json", {"1.text": "a"}, "001-w", state)


class Parts(str):
    """A text whose second half meets a full disk."""

    def __iter__(self) -> Iterator[str]:
        yield self[: len(self) // 2]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("file", FILES)
def test_a_full_disk_leaves_the_earlier_results_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    results.write_results([row("waiting")], tmp_path)
    before = (tmp_path / file).read_bytes()
    write = results._write

    def fill(path: Path, parts: Sequence[str]) -> None:
        write(path, Parts("".join(parts)) if path.name == file else parts)

    monkeypatch.setattr(results, "_write", fill)
    with pytest.raises(StorageError, match="cannot be written into .* .No space left"):
        results.write_results([row(DONE)], tmp_path)
    assert (tmp_path / file).read_bytes() == before and before
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_results_replace_those_of_the_run_before(tmp_path: Path) -> None:
    results.write_results([row("waiting")], tmp_path)
    page = results.write_results([row(DONE)], tmp_path)
    texts: list[Any] = [page.read_text("utf-8"), (tmp_path / results.CSV_FILE).read_text("utf-8")]
    assert all("done" in text and "waiting" not in text for text in texts)


def test_a_cell_for_files_suits_a_spreadsheet_and_a_script(tmp_path: Path) -> None:
    """Ten minutes of PNG frames have 600,000 characters of names; a cell has 32,767."""
    frames = [SavedFile("frames", f"001-my w/a_frames/frame_{n:06}.png") for n in range(9600)]
    sheet = SavedFile("contact_sheet", "001-my w/a b_sheet.png")
    record = row(DONE)
    record.files = [*frames, sheet, SavedFile("frames", "001-my w/longtake/b_frames")]
    results.write_results([record], tmp_path)
    with (tmp_path / results.CSV_FILE).open(encoding="utf-8", newline="") as file:
        [line] = csv.DictReader(file)
    assert line["files"].splitlines() == [
        "001-my w/a_frames/", "001-my w/a b_sheet.png", "001-my w/longtake/b_frames"
    ]  # fmt: skip


def test_rows_of_several_workflows_are_told_apart(tmp_path: Path) -> None:
    """By a column of the page, which the rows of one workflow do not need."""
    other = Record(2, "key2", "folder/other <b>.json", {"1.text": "a"}, "002-other")
    page = results.write_results([row(DONE), other], tmp_path).read_text("utf-8")
    assert "<th></th><th>workflow</th><th>1.text</th>" in page
    assert "<td>w</td><td>a</td>" in page and "<td>other &lt;b&gt;</td><td>a</td>" in page
    page = results.write_results([row(DONE)], tmp_path).read_text("utf-8")
    assert "<th></th><th>1.text</th>" in page and "<td>w</td>" not in page


def test_the_page_of_the_working_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = results.write_results([row(DONE)], Path()).read_text("utf-8")
    assert f"<title>{tmp_path.name}: 1 of 1 done" in page and f"<h1>{tmp_path.name}</h1>" in page


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_a_row_with_a_video_alone_has_a_picture(tmp_path: Path, ending: str) -> None:
    write_clip(tmp_path / f"x.{ending}", 4)
    done = row(DONE)
    done.files = [SavedFile("video", f"x.{ending}")]
    page = results.write_results([done], tmp_path).read_text("utf-8")
    assert '<img alt="row 1" src="data:image/jpeg;base64,' in page
