"""A table of rows: each column is an input, NODE.INPUT, and each row one run.

Formats are CSV (with comma, semicolon or tab), JSON (a list of objects) and JSON Lines. An empty
cell of CSV, or null in JSON, keeps the workflow's own value.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput
from ...kinds import kind_of
from ..json_text import HalfCharacter, parse_json
from ..usage import WrongUsage
from ..workflow.graph import Workflow
from ..workflow.node_spec import NodeSpec
from ..workflow.overrides import Override, find_input, find_target, split_target

EXAMPLE = "for example 5.seed"
Cells = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file, each as the values to set; `columns` are (node, input)."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Override, ...], ...]

    def check(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
        """Reject a column that names no input of the workflow, even if all its cells are empty."""
        for name, input_name in self.columns:
            where = f"{self.name}, column {name}.{input_name}"
            node, own_name = find_target(workflow, name, input_name, where)
            if node.class_type in specs:
                find_input(node, own_name, specs[node.class_type], where)


def read_table(path: Path) -> Table:
    """Read a file of rows; raise `BadInput` if it is not a valid table."""
    readers = {".csv": _csv, ".tsv": _csv, ".json": _json, ".jsonl": _json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise WrongUsage(f"--params {path}: use a .csv, .tsv, .json or .jsonl file.")
    rows = reader(path, _text(path))
    if not rows:
        raise BadInput(f"{path} has no rows, so nothing would run; add at least one.")
    columns = {name: _column(path, name) for row in rows for name in row}
    if not columns:
        raise BadInput(f"{path} names no input; name each column NODE.INPUT, {EXAMPLE}.")
    return Table(
        path.name,
        tuple(columns.values()),
        tuple(
            tuple(
                Override(*columns[name], value, f"{path.name} row {number},")
                for name, value in row.items()
                if value is not None
            )
            for number, row in enumerate(rows, 1)
        ),
    )


def _column(path: Path, name: str) -> tuple[str, str]:
    target = split_target(name)
    if target is None:
        raise BadInput(f"{path}: column {name!r} is not NODE.INPUT, {EXAMPLE}.")
    return target


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise BadInput(
                f"Cannot read --params {path}: {error.strerror}; check the path."
            ) from error
        raise BadInput(
            f"--params {path} is not UTF-8 text; save it anew in UTF-8 (in Excel: CSV UTF-8)."
        ) from error


def _csv(path: Path, text: str) -> list[Cells]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # many spreadsheets write semicolons
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [line for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise BadInput(f"{path} line {reader.line_num} is not valid CSV ({error}).") from error
    used = max((n for line in lines for n, cell in enumerate(line, 1) if cell.strip()), default=0)
    lines = [line[:used] for line in lines]  # spreadsheets write empty columns behind the last
    columns = [name.strip() for name in lines[0]] if lines else []
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise BadInput(f"{path} has two columns {doubled[0]!r}; keep one.")
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(columns):
            raise BadInput(
                f"{path} row {number} has {len(line)} cells, but the header has {len(columns)}; "
                "put text with a delimiter into double quotes."
            )
    return [
        {name: cell or None for name, cell in zip(columns, line, strict=True)} for line in lines[1:]
    ]


def _json(path: Path, text: str) -> list[Cells]:
    content = _decode(path, text)
    if not isinstance(content, list):
        raise BadInput(f'{path} must be a list of objects such as [{{"5.seed": 1}}].')
    return [_cells(path, number, row) for number, row in enumerate(content, 1)]


def _json_lines(path: Path, text: str) -> list[Cells]:
    # Not `splitlines`: a JSON text may hold line breaks that only Unicode knows, as web pages do.
    lines = [line for line in text.split("\n") if line.strip()]
    return [_cells(path, number, _decode(path, line)) for number, line in enumerate(lines, 1)]


def _decode(path: Path, text: str) -> object:
    try:
        content: object = parse_json(text)
    except HalfCharacter as error:
        raise BadInput(f"{path} {error}.") from error
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON ({error}).") from error
    return content


def _cells(path: Path, number: int, row: object) -> Cells:
    if not isinstance(row, dict):
        raise BadInput(f'{path} row {number} must be an object such as {{"5.seed": 1}}.')
    for name, value in row.items():
        if not isinstance(value, str | int | float | bool | None):
            raise BadInput(
                f"{path} row {number}, {name}: must be text, a number, true or false; got "
                f"{kind_of(value)}."
            )
    return row
