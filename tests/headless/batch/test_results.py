"""The result tables are whole: what a disk does not take leaves the earlier ones."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from longtake.errors import StorageError
from longtake.headless.batch import results
from longtake.headless.batch.record import DONE, Record

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
