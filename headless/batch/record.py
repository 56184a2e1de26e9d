"""The state of each row, kept in OUT/batch.jsonl.

The file has a line for the batch, one for each row, and one for each later change, so a change
costs the same in a batch of any length. A batch killed at any moment can resume.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

from ...errors import BadInput, StorageError
from ...machine.temporary_files import remove_leftovers, replacing
from ..json_text import parse_json

FILE = "batch.jsonl"
PLAN_FIELDS = ("number", "workflow", "values", "folder")  # known before the batch starts
WAITING, QUEUED, DONE, FAILED = "waiting", "queued", "done", "failed"


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file of a row, its path relative to OUT; role is video, contact_sheet, report or frames."""

    role: str
    path: str


@dataclass(slots=True)
class Record:
    """The state of one row. `key` hashes everything it runs; `attempt` counts its submissions."""

    number: int
    key: str
    workflow: str
    values: dict[str, object]
    folder: str
    state: str = WAITING
    server: str | None = None
    attempt: int = 0
    losses: int = 0
    files: list[SavedFile] = field(default_factory=list)
    seconds: float | None = None
    report: dict[str, object] = field(default_factory=dict)
    error: str | None = None

    @property
    def label(self) -> str:
        """The row's name in messages, which are lines: one for each row."""
        texts = {name: " / ".join(str(value).splitlines()) for name, value in self.values.items()}
        values = " ".join(f"{name}={text}" for name, text in texts.items())
        return f"row {self.number} ({values or self.workflow})"

    def is_whole(self, out: Path) -> bool:
        """Return whether the row is done and all its files exist."""
        return self.state == DONE and all(_exists(out / file.path) for file in self.files)


class Records:
    """The records of one output folder; `batch_id` determines its prompt ids on every server."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.batch_id = str(uuid.uuid4())
        self.rows: list[Record] = []

    def start(self, rows: Iterable[Record]) -> None:
        """Start with `rows`, discarding an earlier run."""
        self.rows = list(rows)
        self._write_all()

    def resume(self) -> None:
        """Read the records of an earlier run, if any."""
        path = self.out / FILE
        if path.exists():
            self.batch_id, self.rows = _load(path)

    def free_rows(self) -> None:
        """Let rows wait that earlier workers have, none of which can come back."""
        for row in self.rows:
            if row.state == QUEUED:
                row.state, row.server = WAITING, None

    def merge_rows(self, rows: Iterable[Record]) -> None:
        """Use `rows` for this run, each with the state that `resume` found."""
        known = {row.key: row for row in self.rows}
        self.start(self._merge_lines(row, known.get(row.key)) for row in rows)

    def prompt_id(self, row: Record) -> str:
        """Return the id of a row's prompt, which is always the same."""
        return str(uuid.uuid5(uuid.UUID(self.batch_id), f"{row.key}/{row.attempt}"))

    def row_id(self, row: Record) -> str:
        """Return an id of a row that no other batch has."""
        return str(uuid.uuid5(uuid.UUID(self.batch_id), row.key))

    def save(self, row: Record) -> None:
        """Append the state of a row, and return once the disk has it."""
        state = {name: value for name, value in asdict(row).items() if name not in PLAN_FIELDS}
        with self._write("a+b", self.out / FILE) as file:
            file.write(_line_end(file) + _line(state))

    def _write_all(self) -> None:
        """Write all records atomically: a kill leaves either the old file or the new one."""
        path = self.out / FILE
        remove_leftovers(self.out)
        try:
            with replacing(path) as temporary, self._write("wb", temporary) as file:
                file.write(_line({"batch_id": self.batch_id}))
                file.writelines(_line(asdict(row)) for row in self.rows)
        except OSError as error:
            raise _cannot_write(path, error) from error

    @contextmanager
    def _write(self, mode: str, path: Path) -> Iterator[IO[bytes]]:
        try:
            with path.open(mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_write(path, error) from error

    def _merge_lines(self, row: Record, old: Record | None) -> Record:
        """Combine a row with its earlier state: done rows stay done, failed rows are retried."""
        if old is None:
            return row
        row.attempt = old.attempt
        if old.state != WAITING or (self.out / old.folder).exists():  # begun, and cut short
            row.folder = old.folder
        if old.state in (WAITING, FAILED):
            return row
        row.server, row.losses = old.server, old.losses
        if old.state == QUEUED or old.is_whole(self.out):
            row.state, row.files, row.seconds = old.state, old.files, old.seconds
            row.report = old.report
        return row


def _exists(path: Path) -> bool:
    """Whether a file exists, or a folder of frames with at least one of them."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _cannot_write(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written ({error.strerror}); free some space.")


def _load(path: Path) -> tuple[str, list[Record]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            batch_id = str(uuid.UUID(parse_json(next(file))["batch_id"]))
            rows: dict[str, Record] = {}
            for content in _contents(file):
                _apply(content, rows)
        return batch_id, list(rows.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise BadInput(
            f"{path} was not written by `longtake batch`; move it away or choose another --out."
        ) from error


def _contents(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of the lines, except a line that a kill or a full disk cut off."""
    for line in lines:
        with suppress(ValueError):
            yield parse_json(line)


def _apply(content: dict[str, Any], rows: dict[str, Record]) -> None:
    """Add the row of a line to `rows`, or change its state there."""
    names = {entry.name for entry in fields(Record)} & content.keys()
    known = {name: content[name] for name in names}
    if "files" in known:
        known["files"] = [SavedFile(**file) for file in known["files"]]
    key = known["key"]
    rows[key] = replace(rows[key], **known) if key in rows else Record(**known)


def _line_end(file: IO[bytes]) -> bytes:
    """Return what ends the last line, which a full disk may have cut off."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
