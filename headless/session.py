"""An open host with a progress line and a collector of files, for one job after another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .console.progress import Progress, progress_line
from .events import Event, Made, Notice
from .runner import Host, Job, open_host, run_workflow


@dataclass(frozen=True, slots=True)
class Session:
    """An open host with the progress line; runs jobs one after another."""

    host: Host
    events: _Router

    def run(self, job: Job, made: Made) -> float:
        """Run one job, collecting what it makes in `made`; gives the seconds it took."""
        started = time.monotonic()
        with self.events.to(made):
            run_workflow(self.host, job)
        return time.monotonic() - started


class _Router:
    """Sends events to the progress line of the running job and to what collects its files."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._targets: tuple[Callable[[Event], None], ...] = (
            Progress(console, lambda _: None).handle,
        )

    def __call__(self, event: Event) -> None:
        for target in self._targets:
            target(event)

    @contextmanager
    def to(self, made: Made) -> Iterator[None]:
        previous = self._targets
        with progress_line(self._console) as line:
            self._targets = (made.add, line.handle)
            try:
                yield
            finally:
                self._targets = previous


@contextmanager
def session(console: Console, comfy: Path | None, out: Path) -> Iterator[Session]:
    """Open the host, with our log shown above the progress line."""
    events = _Router(console)
    logger, handler = logging.getLogger("longtake"), _NoticeHandler(events)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with open_host(comfy, out, events) as host:
            yield Session(host, events)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _NoticeHandler(logging.Handler):
    def __init__(self, events: _Router) -> None:
        super().__init__(logging.INFO)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events(Notice(record.getMessage()))
