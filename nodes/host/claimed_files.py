"""Numbered files of the output folder, of which no two processes take the same."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .paths import OutputFile

logger = logging.getLogger("longtake")


def claim_file(name: Callable[[], OutputFile], *, is_folder: bool = False) -> OutputFile:
    """Make a file of the next free number, empty, so that no other process writes it too.

    `name` gives that number; once it gives the same again, its files are not seen by the host, and
    nothing is claimed. Where nothing can be made, whoever writes says why.
    """
    before: Path | None = None
    while (file := name()).path != before:
        before = file.path
        try:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            if is_folder:
                file.path.mkdir()
            else:
                file.path.open("xb").close()
        except FileExistsError:
            continue
        except OSError as error:
            logger.debug("No number is claimed in %s: %s", file.path.parent, error)
        break
    return file


def remove_empty(file: OutputFile) -> None:
    """Remove a claimed file into which nothing was written, so that its number is free again."""
    with suppress(OSError):  # it is gone, or a folder that holds pictures
        if file.path.is_dir():
            file.path.rmdir()
        elif not file.path.stat().st_size:
            file.path.unlink()
