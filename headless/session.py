"""An open host with a progress line, for several jobs in turn."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..core.checkout import ComfyCore
from ..stream.video.whole_notes import remove_notes, whole_notes
from .console.progress import Progress, progress_line
from .events import Event, Notice, RunFiles
from .runner import Host, Job, open_host, run_workflow, store_of_hosts


@dataclass(frozen=True, slots=True)
class Session:
    """An open host and its events; runs jobs one after another."""

    host: Host
    events: EventRouter

    def run(self, job: Job, run_files: RunFiles) -> float:
        """Run one job, collect its files in `run_files`, and return the seconds it took."""
        started = time.monotonic()
        with self.events.to(run_files):
            run_workflow(self.host, job)
        remove_notes(file.path for file in run_files.files)
        return time.monotonic() - started


class EventRouter:
    """Send events to the progress line and the file collector of the running job."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._targets: tuple[Callable[[Event], None], ...] = (
            Progress(console, lambda _: None).handle,
        )

    def __call__(self, event: Event) -> None:
        for target in self._targets:
            target(event)

    @contextmanager
    def to(self, run_files: RunFiles) -> Iterator[None]:
        previous = self._targets
        with progress_line(self._console) as line:
            self._targets = (run_files.add, line.handle)
            try:
                yield
            finally:
                self._targets = previous


@contextmanager
def session(
    console: Console,
    comfy: ComfyCore | None,
    out: Path,
    *,
    disable_metadata: bool = False,
    store: str | None = None,
) -> Iterator[Session]:
    """Open the host and print our log above the progress line.

    With `disable_metadata`, files do not hold their workflow. Chunks go to the `store` at a folder
    or URL too.
    """
    events = EventRouter(console)
    logger, handler = logging.getLogger("longtake"), _NoticeHandler(events)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with (
            store_of_hosts(store),
            whole_notes(),
            open_host(comfy, out, events, disable_metadata=disable_metadata) as host,
        ):
            yield Session(host, events)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _NoticeHandler(logging.Handler):
    def __init__(self, events: EventRouter) -> None:
        super().__init__(logging.INFO)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events(Notice(record.getMessage()))
