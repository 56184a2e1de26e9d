"""Numbered files of the output folder, of which no two processes take the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .paths import OutputFile

logger = logging.getLogger("longtake")


def claim_file(name: Callable[[], OutputFile], *, is_folder: bool = False) -> OutputFile:
    """Make a file of the next free number, empty, so that no other process writes it too.

    `name` gives that number. Where nothing can be made, whoever writes says why.
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


@contextmanager
def no_empty(file: OutputFile, *, in_failure: bool = False) -> Iterator[None]:
    """Remove a claimed file at the end if it is still empty; `in_failure`: only if that fails."""
    try:
        yield
    except BaseException:
        _remove_empty(file.path)
        raise
    if not in_failure:
        _remove_empty(file.path)


def _remove_empty(path: Path) -> None:
    with suppress(OSError):  # it is gone, or a folder that holds pictures
        if path.is_dir():
            path.rmdir()
        elif not path.stat().st_size:
            path.unlink()
