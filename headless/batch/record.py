"""The state of each row, kept in OUT/batch.json.

The file is written completely after every change, so a batch killed at any moment can resume.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ...errors import BadInput, StorageError

FILE = "batch.json"
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
        """The row's name in messages."""
        values = " ".join(f"{name}={value}" for name, value in self.values.items())
        return f"row {self.number} ({values or self.workflow})"

    def is_whole(self, out: Path) -> bool:
        """Return whether the row is done and all its files exist."""
        return self.state == DONE and all((out / file.path).exists() for file in self.files)


class Records:
    """The records of one output folder; `batch_id` determines its prompt ids on every server."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.batch_id = str(uuid.uuid4())
        self.rows: list[Record] = []

    def start(self, rows: Iterable[Record]) -> None:
        """Start with `rows`, discarding an earlier run."""
        self.rows = list(rows)
        self.save()

    def resume(self) -> None:
        """Read the records of an earlier run, if any."""
        path = self.out / FILE
        if path.exists():
            self.batch_id, self.rows = _load(path)

    def merge_rows(self, rows: Iterable[Record]) -> None:
        """Use `rows` for this run, each with the state that `resume` found."""
        known = {row.key: row for row in self.rows}
        self.start(self._merged(row, known.get(row.key)) for row in rows)

    def prompt_id(self, row: Record) -> str:
        """Return the id of a row's prompt, which is always the same."""
        return str(uuid.uuid5(uuid.UUID(self.batch_id), f"{row.key}/{row.attempt}"))

    def save(self) -> None:
        """Write all records atomically: a kill leaves either the old file or the new one."""
        path, records = self.out / FILE, [asdict(row) for row in self.rows]
        content = json.dumps({"batch_id": self.batch_id, "rows": records}, indent=1) + "\n"
        temporary = path.with_name(f"{FILE}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written ({error.strerror}); free some space and run again."
            ) from error

    def _merged(self, row: Record, old: Record | None) -> Record:
        """Combine a row with its earlier state: done rows stay done, failed rows are retried."""
        if old is None or old.state == WAITING:
            return row
        row.folder, row.attempt = old.folder, old.attempt
        if old.state == FAILED:
            return row
        row.server, row.losses = old.server, old.losses
        if old.state == QUEUED or old.is_whole(self.out):
            row.state, row.files, row.seconds = old.state, old.files, old.seconds
            row.report = old.report
        return row


def _load(path: Path) -> tuple[str, list[Record]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        records = [_record(row) for row in content["rows"]]
        return str(uuid.UUID(content["batch_id"])), records
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} was not written by `longtake batch`; move it away or choose another --out."
        ) from error


def _record(content: dict[str, object]) -> Record:
    names = {entry.name for entry in fields(Record)}
    record = Record(**{name: value for name, value in content.items() if name in names})  # type: ignore[arg-type]  # checked by `_load`'s try
    record.files = [SavedFile(**file) for file in record.files]  # type: ignore[arg-type]
    return record
