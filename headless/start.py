"""The program `longtake`: chooses how torch uses the processor, then loads torch and everything."""

from __future__ import annotations

import os

from .allocator import keep_freed_memory
from .processor import choose_threads


def main() -> None:
    """Run the command line."""
    choose_threads(os.environ)
    keep_freed_memory(os.environ)
    from .cli import main as run

    run()
