"""A worker: leases rows of a driver, runs them, and brings the files."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ....errors import BadInput, LongtakeError
from ...batch.record import FILE as RECORDS_FILE
from ..messages import ending_message
from ..names import rename_files
from ..queue import Ending
from .disk import check_room
from .engine import Engine
from .link import AllEnded, DriverFull, DriverLost, LeaseEnded, Link, Task
from .loop import LoopThread

BEATS = 3  # renewals within the time of a lease
IDLE_S = 2.0


@dataclass(slots=True)
class Worker:
    """Runs rows until the batch is done. Files of a row are in `rows`, by the lease's id; where
    that folder `is_shared` with the driver, they are not sent. `outlook` is a sentence on what
    becomes of the chunks of a row that is given back.
    """

    name: str
    link: Link
    engine: Engine
    loop: LoopThread
    console: Console
    rows: Path
    is_shared: bool = False
    outlook: str = ""
    idle_s: float = IDLE_S
    _lost: bool = field(default=False, init=False)

    def run(self) -> int:
        """Return the number of rows that ended here; raise LongtakeError without a driver."""
        rows = 0
        while (task := self._next()) is not None:
            self._say(f"{task.label} begins.")
            with self._folder(task) as folder, self._renewing(task):
                rows += self._run(task, folder)
        self._say(f"The batch is done; rows that ended here: {rows}.")
        return rows

    def _next(self) -> Task | None:
        """Wait for a row; return None once all rows have ended."""
        return self.loop.wait(self._wait_for_row())

    async def _wait_for_row(self) -> Task | None:
        with suppress(AllEnded):
            while (task := await self.link.insist(lambda: self.link.take(self.name))) is None:
                await asyncio.sleep(self.idle_s)
            return task
        return None

    def _run(self, task: Task, folder: Path) -> bool:
        """Run a row to its end; return False where another worker has taken the row over."""
        try:
            self._check_shared()
            ending = _with_safe_files(self.engine.run(task, folder), folder)
            if ending.error is not None:
                self._check_disk(folder)
            self.loop.wait(self._hand_over(task, ending, folder))
        except LeaseEnded:
            self._lost = True
        except BaseException:
            if not self._lost:
                self._release(task)
                raise
        if self._lost:
            self._say(f"{task.label} went to another worker.")
        else:
            self._say(f"{task.label} {'failed: ' + ending.error if ending.error else 'is done.'}")
        return not self._lost

    async def _hand_over(self, task: Task, ending: Ending, folder: Path) -> None:
        """Bring the files, then say how the row ended."""
        if not self.is_shared:
            for file in ending.files:
                path = file.path
                await self.link.insist(partial(self.link.send, task, folder / path, path))
        await self.link.insist(lambda: self.link.end(task, ending_message(ending)))

    def _check_disk(self, folder: Path) -> None:
        """Raise StorageError where a row failed on a disk that takes no files.

        What the row had written goes first. Files in a shared folder are the driver's.
        """
        if not self.is_shared:
            shutil.rmtree(folder, ignore_errors=True)
        check_room(folder)

    def _check_shared(self) -> None:
        """Check that a batch is driven from the shared folder; raise BadInput.

        There is one at the first row, and perhaps not before: a worker may start before its driver.
        """
        if self.is_shared and not (self.rows.parent / RECORDS_FILE).is_file():
            raise BadInput(
                f"--shared {self.rows.parent} is not the driver's --out: it has no {RECORDS_FILE}; "
                "give the folder as this machine sees it, or leave --shared out."
            )

    def _release(self, task: Task) -> None:
        """Give a row back; where the driver refuses or does not answer, its lease ends by itself.

        It raises nothing: what ended the row says how the worker ends.
        """
        try:
            self.loop.wait(self.link.release(task))
        except LeaseEnded:
            return
        except (DriverLost, LongtakeError) as error:
            after = f"{task.seconds:g} s without a word of this worker"
            self._say(f"{_why_it_stays(error)} {task.label} goes to another after {after}.")
        else:
            self._say(f"{task.label} went back to the driver. {self.outlook}".rstrip())

    @contextmanager
    def _folder(self, task: Task) -> Iterator[Path]:
        """Yield the folder for a row's files; the driver removes a shared one."""
        folder = self.rows / task.lease
        try:
            yield folder
        finally:
            if not self.is_shared:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _renewing(self, task: Task) -> Iterator[None]:
        """Renew the lease within the block; stop the engine where the lease has ended."""
        self._lost = False
        beat: Future[None] = self.loop.start(self._beat(task))
        try:
            yield
        finally:
            beat.cancel()

    async def _beat(self, task: Task) -> None:
        while True:
            await asyncio.sleep(task.seconds / BEATS)
            try:
                await self.link.renew(task, *self.engine.chunks)
            except DriverLost:
                continue  # it may come back: the row's end insists
            except LeaseEnded:
                self._lost = True
                self.engine.interrupt()
                return
            except LongtakeError as error:  # the row's end meets it too
                self._say(f"The lease is not renewed: {error}")

    def _say(self, text: str) -> None:
        self.console.print(escape(text), highlight=False)


def _why_it_stays(error: Exception) -> str:
    """Why a row could not be given back, before the words that tell when it goes on."""
    if isinstance(error, DriverFull):
        return f"The driver refuses: {error}"
    return "The driver does not answer;" if isinstance(error, DriverLost) else str(error)


def _with_safe_files(ending: Ending, folder: Path) -> Ending:
    """The ending with names that every system can write.

    A file that is elsewhere, or nowhere, is the row's failure: it would end each worker in turn.
    """
    here = folder.resolve()
    for file in ending.files:
        path = Path(os.path.normpath(here / file.path))
        if not path.is_relative_to(here) or not path.is_file():
            error = f"a node lists the file {file.path}, which is not in the row's output folder"
            return Ending(ending.seconds, error=error)
    try:
        return replace(ending, files=rename_files(folder, ending.files))
    except OSError as error:
        reason = f"{folder} does not take the row's files ({error.strerror})"
        return Ending(ending.seconds, error=reason)
