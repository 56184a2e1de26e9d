"""What became of each row, kept in OUT/batch.json: written whole and at once after every change, so
that a batch killed at any moment goes on from there.
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
    """One row. `key` is a hash of all that it runs; `attempt` counts how often it was queued."""

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
        """The row for people."""
        values = " ".join(f"{name}={value}" for name, value in self.values.items())
        return f"row {self.number} ({values or self.workflow})"

    def is_whole(self, out: Path) -> bool:
        """Whether it is done and all its files are there."""
        return self.state == DONE and all((out / file.path).exists() for file in self.files)


class Records:
    """The records of one output folder; `batch_id` names its prompts on every server."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.batch_id = str(uuid.uuid4())
        self.rows: list[Record] = []

    def start(self, rows: Iterable[Record]) -> None:
        """Begin with `rows`, whatever an earlier run left."""
        self.rows = list(rows)
        self.save()

    def resume(self) -> None:
        """Read what an earlier run left, if any did."""
        path = self.out / FILE
        if path.exists():
            self.batch_id, self.rows = _load(path)

    def go_on(self, rows: Iterable[Record]) -> None:
        """Take `rows` for this run's, each with what `resume` has found of it."""
        known = {row.key: row for row in self.rows}
        self.start(self._merged(row, known.get(row.key)) for row in rows)

    def prompt_id(self, row: Record) -> str:
        """The id of a row's prompt: the same whoever computes it, whenever."""
        return str(uuid.uuid5(uuid.UUID(self.batch_id), f"{row.key}/{row.attempt}"))

    def save(self) -> None:
        """Write all, so that a kill leaves either the old file or the new one."""
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
        """A row with its past: done ones stay so, failed ones are tried again."""
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
        records = [_record(one) for one in content["rows"]]
        return str(uuid.UUID(content["batch_id"])), records
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is not what `longtake batch` writes; move it away or give another --out."
        ) from error


def _record(content: dict[str, object]) -> Record:
    known = {one.name for one in fields(Record)}
    record = Record(**{name: value for name, value in content.items() if name in known})  # type: ignore[arg-type]  # checked by `_load`'s try
    record.files = [SavedFile(**file) for file in record.files]  # type: ignore[arg-type]
    return record
