"""How commands end: their last lines and exit codes."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from ...errors import LongtakeError
from ..events import RunFiles
from ..usage import WrongUsage
from .interrupt import INTERRUPTED
from .progress import summary


@contextmanager
def report_failures(
    console: Console,
    run_files: RunFiles,
    *,
    debug: bool,
    resume_hint: Callable[[RunFiles], str] | None = None,
) -> Iterator[None]:
    """Turn an exception within the block into one line and an exit code.

    A failure's line goes to stderr: what reads stdout gets the command's answer or nothing.
    click itself reports wrong usage.
    """
    try:
        yield
    except click.UsageError:
        raise
    except WrongUsage as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt as stop:
        console.print(escape((resume_hint or _report_interrupt)(run_files)), highlight=False)
        raise SystemExit(INTERRUPTED) from stop
    except Exception as error:
        print_failure(Console(stderr=True, soft_wrap=True), error, debug=debug)
        raise SystemExit(1) from error


def print_failure(console: Console, error: Exception, *, debug: bool) -> str:
    """Print the reason of a failure in one line, and return the line."""
    line = failure_line(error)
    if debug:
        console.print(escape("".join(traceback.format_exception(error))), highlight=False)
    console.print(f"[red]Failed:[/] {escape(line)}", highlight=False)
    return line


def failure_line(error: Exception) -> str:
    """Return the reason of a failure in one line."""
    if isinstance(error, LongtakeError):
        return str(error)
    return f"internal error, {type(error).__name__}: {error} (--debug shows where)"


def _report_interrupt(run_files: RunFiles) -> str:
    last = run_files.last
    where = f" after chunk {last.chunk + 1}" if last and not last.from_disk else ""
    videos = ", ".join(str(path) for path in run_files.paths("video") if _has_content(path))
    playable = f" {videos} is playable up to there." if videos else ""
    folders = ", ".join(str(path) for path in run_files.paths("frames") if path.is_dir())
    frames = f" {folders} has the frames up to there." if folders else ""
    resume = "Run the same command again to resume after the last finished chunk."
    return f"Interrupted{where}.{playable}{frames} {resume}"


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def print_files(console: Console, run_files: RunFiles, seconds: float) -> None:
    """Print a run's summary and its files."""
    names = {
        "video": "video",
        "contact_sheet": "contact sheet",
        "report": "report",
        "frames": "picture",
    }
    progress = f": {summary(run_files.last)}" if run_files.last else ""
    console.print(f"Done in {seconds:.1f} s{progress}.", highlight=False)
    if run_files.last and run_files.last.latency:
        console.print(f"{'latency':14} {run_files.last.latency}", highlight=False)
    for file in run_files.files:
        console.print(
            f"{names.get(file.role, file.role):14} {escape(str(file.path))}", highlight=False
        )
