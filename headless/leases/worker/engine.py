"""What runs a worker's rows: the engine of this process, or a ComfyUI server beside it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ....errors import LongtakeError
from ...batch.local import path_below, report_of
from ...batch.record import SavedFile
from ...batch.servers.answers import BadAnswer
from ...batch.servers.client import Client, FileMissing, Refusal, ServerLost
from ...batch.servers.outputs import ROLES, fetch, outcome
from ...batch.servers.watch import ProgressWatch
from ...console.reporting import failure_line
from ...events import FileSaved, RunFiles, role_of
from ...runner import Job
from ...session import Session
from ..queue import Ending
from .disk import check_room
from .link import Task
from .loop import LoopThread

WORKFLOW_FILE = "workflow.json"
FAREWELL_S = 5.0  # for a server to take a row back while its worker ends


class Engine(Protocol):
    """Runs one row at a time."""

    @property
    def chunks(self) -> tuple[int | None, int | None]:
        """The finished chunks of the running row, and their number; None if not known."""

    def run(self, task: Task, folder: Path) -> Ending:
        """Run a row, with its files in `folder`; raise KeyboardInterrupt if interrupted."""

    def interrupt(self) -> None:
        """Ask the running row to stop soon."""


@dataclass(slots=True)
class OwnEngine:
    """The stand-in host or the real core, in an open session."""

    live: Session
    _files: RunFiles = field(default_factory=RunFiles)
    _is_running: bool = False

    @property
    def chunks(self) -> tuple[int | None, int | None]:
        """The finished chunks of the running row, and their number."""
        last = self._files.last
        return (None, None) if last is None else (last.chunk + 1, last.chunks)

    def run(self, task: Task, folder: Path) -> Ending:
        """Run a row here; any failure is the row's end."""
        self._files = RunFiles()
        check_room(folder)
        workflow = folder / WORKFLOW_FILE
        workflow.write_text(json.dumps(task.workflow), encoding="utf-8")
        began = time.monotonic()
        try:
            self.live.host.hold_lease(task.row, task.number)
            self._is_running = True
            self.live.run(Job(workflow, (), folder), self._files)
            files = tuple(each for file in self._files.files for each in _saved(file, folder))
        except Exception as error:  # the row's fault or ours: the other rows go on
            return Ending(time.monotonic() - began, error=failure_line(error))
        finally:
            self._is_running = False
            workflow.unlink()
        report = tuple(report_of(self._files).items())
        return Ending(time.monotonic() - began, files, report)

    def interrupt(self) -> None:
        """Ask the running row to stop soon.

        A lease may end while the files of its row are sent. A host that is asked then would stop
        the next row.
        """
        if self._is_running:
            self.live.host.interrupt()


def _saved(file: FileSaved, folder: Path) -> Iterator[SavedFile]:
    """Yield a saved file, or each file of a folder of frames, below the row's folder."""
    role = file.role if file.role in ROLES else role_of({"filename": file.path.name})
    paths = sorted(file.path.iterdir()) if file.path.is_dir() else [file.path]
    for path in paths:
        yield SavedFile(role, path_below(path, folder))


@dataclass(slots=True)
class ServerEngine:
    """A ComfyUI server, which queues our rows among its own. Its requests run on `loop`."""

    client: Client
    loop: LoopThread
    patience_s: float
    chunks: tuple[int | None, int | None] = (None, None)
    _prompt_id: str = ""

    def run(self, task: Task, folder: Path) -> Ending:
        """Queue a row on the server, and copy its files."""
        self.chunks = (None, None)
        try:
            return self.loop.wait(self._run(task, folder))
        except (Refusal, FileMissing) as error:
            return Ending(0, error=str(error))
        except (ServerLost, BadAnswer) as error:  # the row goes back, and this worker ends
            raise LongtakeError(f"{self.client.name} cannot be used: {error}.") from error
        except KeyboardInterrupt:  # the row goes to another worker
            self.loop.wait(self._take_back())
            raise

    def interrupt(self) -> None:
        """Take the running row from the server."""
        self.loop.start(self.client.drop([self._prompt_id]))

    async def _take_back(self) -> None:
        """Take the row from the server, unless it does not answer."""
        with suppress(ServerLost, BadAnswer, asyncio.TimeoutError):
            await asyncio.wait_for(self.client.drop([self._prompt_id]), FAREWELL_S)

    async def _run(self, task: Task, folder: Path) -> Ending:
        self._prompt_id = str(uuid.uuid4())
        watch = ProgressWatch(self.client)
        listener = asyncio.create_task(watch.run())
        watch.follow(self._prompt_id, task.workflow, self._progress)
        try:
            await self.client.queue(task.workflow, self._prompt_id)
            entry = await self._end(watch)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
        seconds, report, problem = outcome(entry)
        if problem is not None:
            return Ending(seconds or 0, error=problem)
        files = await fetch(self.client, entry, folder.parent, folder.name)
        below = [SavedFile(f.role, f.path.partition("/")[2]) for f in files]
        return Ending(seconds or 0, tuple(below), tuple(report.items()))

    async def _end(self, watch: ProgressWatch) -> dict[str, object]:
        """Return the prompt's entry in the history; a server that is away may come back."""
        heard = time.monotonic()
        while True:
            try:
                entry = await self.client.finished(self._prompt_id)
                known = entry or await self.client.place(self._prompt_id)
                entry = entry or (None if known else await self.client.finished(self._prompt_id))
                heard = time.monotonic()
            except ServerLost as error:
                if time.monotonic() - heard > self.patience_s:
                    raise LongtakeError(f"{self.client.name} does not answer ({error}).") from error
                known, entry = "away", None
            if entry is not None:
                return entry
            if not known:
                raise Refusal(f"{self.client.name} accepts prompts and forgets them")
            await watch.wait(self._prompt_id)

    def _progress(self, done: int, total: int) -> None:
        self.chunks = (done, total)
