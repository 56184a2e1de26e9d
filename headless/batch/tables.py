"""results.csv: one line per row, for a spreadsheet or a script."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from .record import Record

FACTS = ("frames", "first_frame_s", "frames_per_s", "kv_bytes", "resumed_from_chunk")
AFTER = ("state", "server", "seconds", *FACTS, "error", "files")


def columns(records: Sequence[Record]) -> list[str]:
    """Return the inputs that any row sets, in order of appearance."""
    return list(dict.fromkeys(name for record in records for name in record.values))


def to_csv(records: Sequence[Record]) -> str:
    """Return the whole table."""
    names = columns(records)
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["row", "workflow", *names, *AFTER])
    for record in records:
        values = [_guarded(record.values.get(name, "")) for name in names]
        table.writerow([record.number, record.workflow, *values, *_after(record)])
    return text.getvalue()


def _after(record: Record) -> list[object]:
    seconds = "" if record.seconds is None else round(record.seconds, 3)
    facts = ["" if record.report.get(name) is None else record.report[name] for name in FACTS]
    files = " ".join(file.path for file in record.files)
    error = _guarded(record.error or "")
    return [record.state, record.server or "", seconds, *facts, error, files]


def _guarded(value: object) -> object:
    """Quote text that a spreadsheet would execute as a formula."""
    if not isinstance(value, str) or value[:1] not in ("=", "+", "-", "@"):
        return value
    return value if re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", value) else f"'{value}"
