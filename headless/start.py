"""The program `longtake`: chooses how torch uses the processor, then loads torch and everything."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from .allocator import keep_freed_memory
from .console.interrupt import Termination, end_at_once
from .console.output import keep_output, report_loss
from .garbage import collect_rarely
from .packages import describe_lack
from .processor import choose_threads


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, end_at_once)  # until a command knows what to say and to keep
    termination = Termination()
    signal.signal(signal.SIGTERM, termination.handle)
    output = keep_output()
    choose_threads(os.environ)
    keep_freed_memory(os.environ)
    collect_rarely()
    run = _load()
    code: str | int | None = None
    try:
        run()
    except SystemExit as end:
        code = termination.exit_code(end.code)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is Python's own end
    lost = report_loss(output)
    if code or lost:
        raise SystemExit(code or lost)


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
