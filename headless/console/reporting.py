"""How commands end: what is printed, and the exit code."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from ...errors import LongtakeError
from ..events import Made
from .progress import summary

INTERRUPTED = 130


@contextmanager
def reported(
    console: Console,
    made: Made,
    *,
    debug: bool,
    how_to_go_on: Callable[[Made], str] | None = None,
) -> Iterator[None]:
    """Turn what goes wrong inside into a line and an exit code."""
    try:
        yield
    except KeyboardInterrupt as stop:
        console.print(escape((how_to_go_on or _interrupted)(made)), highlight=False)
        raise SystemExit(INTERRUPTED) from stop
    except Exception as error:
        print_failure(console, error, debug=debug)
        raise SystemExit(1) from error


def print_failure(console: Console, error: Exception, *, debug: bool) -> str:
    """Print why something failed, in one line, which is also returned."""
    known = isinstance(error, LongtakeError)
    line = (
        str(error)
        if known
        else f"internal error, {type(error).__name__}: {error} (--debug shows where)"
    )
    if debug:
        console.print(escape("".join(traceback.format_exception(error))), highlight=False)
    console.print(f"[red]Failed:[/] {escape(line)}", highlight=False)
    return line


def _interrupted(made: Made) -> str:
    where = f" after chunk {made.last.chunk + 1}" if made.last else ""
    videos = ", ".join(str(path) for path in made.paths("video"))
    playable = f" {videos} is playable up to there." if videos else ""
    resume = "Run the same command again to go on from the last whole chunk."
    return f"Interrupted{where}.{playable} {resume}"


def print_files(console: Console, made: Made, seconds: float) -> None:
    """Print what a run reached, and its files."""
    names = {
        "video": "video",
        "contact_sheet": "contact sheet",
        "report": "report",
        "frames": "picture",
    }
    told = f": {summary(made.last)}" if made.last else ""
    console.print(f"Done in {seconds:.1f} s{told}.", highlight=False)
    for file in made.files:
        console.print(
            f"{names.get(file.role, file.role):14} {escape(str(file.path))}", highlight=False
        )
