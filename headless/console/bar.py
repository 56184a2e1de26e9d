"""A bar for work of known length, which appears with the first part that is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress_bar(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what takes the parts done and their total. Input that is refused has shown no bar."""
    bar = Progress(console=console)
    task = bar.add_task(title, total=None)

    def advance(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if bar.live.is_started:  # to stop a bar that is not shown would print an empty line
            bar.stop()
