"""results.csv: one line per row, for a spreadsheet or a script."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from .record import Record, SavedFile

FACTS = ("frames", "first_frame_s", "frames_per_s", "kv_bytes", "resumed_from_chunk")
NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")
# Spreadsheets skip blanks and control characters, and take the wide forms of = + - @ too.
FORMULA = re.compile(r"[\s\x00-\x1f\x7f\ufeff\u200b]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
FRAMES_LISTED = 16
"""A folder with more frames is named instead: spreadsheets cut a cell at 32,767 characters."""
AFTER = ("state", "server", "seconds", *FACTS, "error", "files")


def columns(records: Sequence[Record]) -> list[str]:
    """Return the inputs that any row sets, in order of appearance."""
    return list(dict.fromkeys(name for record in records for name in record.values))


def to_csv(records: Sequence[Record]) -> str:
    """Return the whole table."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    for line in _lines(records):
        table.writerow([_guard(cell) for cell in line])
    return text.getvalue()


def _lines(records: Sequence[Record]) -> Iterator[list[object]]:
    names = columns(records)
    yield ["row", "workflow", *names, *AFTER]
    for record in records:
        values = [record.values.get(name, "") for name in names]
        yield [record.number, record.workflow, *values, *_after(record)]


def _after(record: Record) -> list[object]:
    seconds = "" if record.seconds is None else round(record.seconds, 3)
    facts = ["" if record.report.get(name) is None else record.report[name] for name in FACTS]
    files = "\n".join(_names(record.files))  # a name may have blanks
    return [record.state, record.server or "", seconds, *facts, record.error or "", files]


def _names(files: Sequence[SavedFile]) -> Iterator[str]:
    """Yield the path of each file, or once the folder of many frames, with a slash behind it."""
    folders = [_folder(file) for file in files if file.role == "frames"]
    large = {folder for folder, count in Counter(folders).items() if count > FRAMES_LISTED}
    named = [_folder(f) if f.role == "frames" and _folder(f) in large else f.path for f in files]
    yield from dict.fromkeys(named)


def _folder(file: SavedFile) -> str:
    return "".join(file.path.rpartition("/")[:2])


def _guard(value: object) -> object:
    """Quote text that a spreadsheet would execute as a formula."""
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    text = value.replace("\0", "")  # the csv module of Python 3.10 fails there
    return f"'{text}" if FORMULA.match(text) else text
