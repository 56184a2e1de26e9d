"""A batch again, after its table or its files have changed: every row goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longtake.headless.batch.record import (
    DONE,
    FAILED,
    QUEUED,
    WAITING,
    Record,
    Records,
    SavedFile,
)

OLD = Record(1, "key1", "w.json", {"1.text": "a"}, "001-w-key1")
ADDED = Record(1, "key0", "w.json", {"1.text": "new"}, "001-w-key0")


def merged(out: Path, *rows: Record) -> list[Record]:
    """The rows of a batch that an earlier run has records of."""
    records = Records(out)
    records.resume()
    records.merge_rows(replace(row) for row in rows)
    again = Records(out)
    again.resume()
    assert again.rows == records.rows
    return records.rows


@pytest.mark.parametrize("state", [WAITING, FAILED])
def test_a_row_that_was_cut_short_keeps_its_folder_behind_an_added_line(
    tmp_path: Path, state: str
) -> None:
    """Its journal and its unfinished video are there."""
    Records(tmp_path).start([replace(OLD, state=state)])
    (tmp_path / OLD.folder).mkdir()
    rows = merged(tmp_path, ADDED, replace(OLD, number=2, folder="002-w-key1"))
    assert [row.folder for row in rows] == [ADDED.folder, OLD.folder]
    assert [(row.number, row.state) for row in rows] == [(1, WAITING), (2, WAITING)]


def test_a_row_that_never_began_gets_the_number_of_its_line(tmp_path: Path) -> None:
    Records(tmp_path).start([OLD])
    rows = merged(tmp_path, ADDED, replace(OLD, number=2, folder="002-w-key1"))
    assert [row.folder for row in rows] == [ADDED.folder, "002-w-key1"]


@pytest.mark.parametrize("state", [QUEUED, DONE])
def test_a_row_keeps_what_an_earlier_run_knew_of_it(tmp_path: Path, state: str) -> None:
    """Its report fills the results, and its losses tell a row that brings servers down."""
    video = SavedFile("video", f"{OLD.folder}/a.mp4")
    (tmp_path / OLD.folder).mkdir()
    (tmp_path / video.path).touch()
    earlier = replace(
        OLD, state=state, server="http://gpu:8188", attempt=3, losses=2, files=[video],
        seconds=4.5, report={"frames": 33},
    )  # fmt: skip
    Records(tmp_path).start([replace(earlier)])
    assert merged(tmp_path, OLD) == [earlier]


def test_a_row_whose_frames_are_gone_is_made_again(tmp_path: Path) -> None:
    """This machine records a folder of frames as one file."""
    frames = tmp_path / OLD.folder / "clip_00001_frames"
    done = replace(OLD, state=DONE, files=[SavedFile("frames", f"{OLD.folder}/{frames.name}")])
    for there in (True, False):
        frames.mkdir(parents=True, exist_ok=True)
        (frames / "frame_000000.png").touch()
        if not there:
            (frames / "frame_000000.png").unlink()
        Records(tmp_path).start([replace(done)])
        [row] = merged(tmp_path, OLD)
        assert (row.state, len(row.files)) == ((DONE, 1) if there else (WAITING, 0))
    frames.rmdir()
    Records(tmp_path).start([replace(done)])
    assert merged(tmp_path, OLD)[0].state == WAITING
