"""The program `longtake`: chooses how torch uses the processor, then loads torch and everything."""

from __future__ import annotations

import os

from .processor import choose_threads


def main() -> None:
    """Run the command line."""
    choose_threads(os.environ)
    from .cli import main as run

    run()
