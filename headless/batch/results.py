"""The result tables in a batch's output folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import StorageError
from .page import page_parts
from .record import Record
from .tables import to_csv

CSV_FILE, HTML_FILE = "results.csv", "results.html"


def write_results(records: Sequence[Record], out: Path) -> Path:
    """Write OUT/results.csv and OUT/results.html, and return the page's path."""
    page = out / HTML_FILE
    try:
        (out / CSV_FILE).write_text(to_csv(records), encoding="utf-8", newline="")
        with page.open("w", encoding="utf-8") as file:
            file.writelines(page_parts(records, out))
    except OSError as error:
        raise StorageError(
            f"The results cannot be written into {out} ({error.strerror}); free some space, or "
            "close the program that has them open."
        ) from error
    return page
