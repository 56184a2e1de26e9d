"""The program `longtake`: chooses how torch uses the processor, then loads torch and everything."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable

from .allocator import keep_freed_memory
from .console.interrupt import Termination, end_at_once
from .garbage import collect_rarely
from .packages import describe_lack
from .processor import choose_threads


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, end_at_once)  # until a command knows what to say and to keep
    termination = Termination()
    signal.signal(signal.SIGTERM, termination.handle)
    _escape_missing_letters()
    choose_threads(os.environ)
    keep_freed_memory(os.environ)
    collect_rarely()
    run = _load()
    try:
        run()
    except SystemExit as end:
        raise SystemExit(termination.exit_code(end.code)) from end
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is Python's own end


def _load() -> Callable[[], None]:
    """The command line; ends with a sentence where a package is missing or cannot be loaded."""
    try:
        from .cli import main as run
    except (ImportError, OSError) as error:  # OSError: a library of torch on Windows
        lack = describe_lack(error)
        if lack is None:
            raise
        raise SystemExit(lack) from error
    return run


def _escape_missing_letters() -> None:
    """Escape what the output has no letters for: in Windows a pipe has those of one country."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
