"""The program `longtake`: chooses how torch uses the processor, then loads torch and everything."""

from __future__ import annotations

import io
import os
import signal
import sys

from .allocator import keep_freed_memory
from .console.interrupt import end_at_once
from .garbage import collect_rarely
from .processor import choose_threads


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, end_at_once)  # until a command knows what to say and to keep
    _escape_missing_letters()
    choose_threads(os.environ)
    keep_freed_memory(os.environ)
    collect_rarely()
    from .cli import main as run

    try:
        run()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is Python's own end


def _escape_missing_letters() -> None:
    """Escape what the output has no letters for: in Windows a pipe has those of one country."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
