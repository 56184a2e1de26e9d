"""The result tables in a batch's output folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import StorageError
from ...machine.temporary_files import replacing
from .page import page_parts
from .record import Record
from .tables import to_csv

CSV_FILE, HTML_FILE = "results.csv", "results.html"


def write_results(records: Sequence[Record], out: Path) -> Path:
    """Write OUT/results.csv and OUT/results.html, and return the page's path.

    Each is written whole. Where a disk is full, the earlier one stays.
    """
    page = out / HTML_FILE
    try:
        _write(out / CSV_FILE, [to_csv(records)])
        _write(page, page_parts(records, out))
    except OSError as error:
        raise StorageError(
            f"The results cannot be written into {out} ({error.strerror}); free some space, or "
            "close the program that has them open."
        ) from error
    return page


def _write(path: Path, parts: Iterable[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(parts)
