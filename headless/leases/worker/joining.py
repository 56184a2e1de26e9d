"""Opens a worker's engine and its link to the driver."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.markup import escape
from yarl import URL

from ....core.checkout import ComfyCore
from ....errors import LongtakeError
from ....machine.temporary_files import temporary_folder
from ...batch.servers.answers import BadAnswer
from ...batch.servers.client import TIMEOUT, Client, ServerLost
from ...runner import prepare_folder
from ...session import session
from ..staging import FOLDER
from .engine import Engine, OwnEngine, ServerEngine
from .link import Link
from .loop import LoopThread, loop_thread
from .worker import Worker

ROWS = "rows"
"""Below a worker's folder: a folder for each process, with files that the driver does not have."""


@dataclass(frozen=True, slots=True)
class Joining:
    """Which driver a worker joins and what runs its rows: a `server`, else the core at `comfy`,
    else the stand-in. The files of unfinished rows are in `work`.
    """

    driver: URL
    key: str = field(repr=False)
    name: str
    patience_s: float
    work: Path
    shared: Path | None = None
    server: URL | None = None
    comfy: ComfyCore | None = None
    store: str | None = field(default=None, repr=False)  # it may hold a password
    disable_metadata: bool = False

    @property
    def outlook(self) -> str:
        """What becomes of a row's finished chunks where this worker gives the row back."""
        if self.server is not None:  # its own journal has them, and perhaps a store
            return ""
        if self.store is not None:
            return "Whoever takes it goes on after its last finished chunk."
        return "Whoever takes it makes it from the beginning, since this worker has no --store."


def join(joining: Joining, console: Console) -> int:
    """Work until the batch is done; return the number of rows that ended here."""
    prepare_folder(joining.work, "--work")
    with (
        loop_thread() as loop,
        _requests(loop) as requests,
        _engine(joining, loop, requests, console) as engine,
        _row_folder(joining) as rows,
    ):
        link = Link(
            requests, joining.driver, joining.key, joining.patience_s,
            lambda text: console.print(escape(text), highlight=False),
        )  # fmt: skip
        is_shared = joining.shared is not None
        return Worker(
            joining.name, link, engine, loop, console, rows,
            is_shared=is_shared, outlook=joining.outlook,
        ).run()  # fmt: skip


@contextmanager
def _row_folder(joining: Joining) -> Iterator[Path]:
    """Yield the folder for the rows of this process. What killed workers left beside it goes."""
    if joining.shared is not None:
        yield joining.shared / FOLDER
        return
    parent = joining.work / ROWS
    prepare_folder(parent, "--work")
    folder = temporary_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _requests(loop: LoopThread) -> Iterator[aiohttp.ClientSession]:
    requests = loop.wait(_open())
    try:
        yield requests
    finally:
        loop.wait(requests.close())


async def _open() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=TIMEOUT)


@contextmanager
def _engine(
    joining: Joining, loop: LoopThread, requests: aiohttp.ClientSession, console: Console
) -> Iterator[Engine]:
    if joining.server is not None:
        client = Client(requests, joining.server, str(uuid.uuid4()))
        try:
            loop.wait(client.greet())
        except (ServerLost, BadAnswer) as error:
            raise LongtakeError(
                f"{client.name} does not answer ({error}); start ComfyUI there or check --server."
            ) from error
        yield ServerEngine(client, loop, joining.patience_s)
        return
    with session(
        console, joining.comfy, joining.work,
        disable_metadata=joining.disable_metadata, store=joining.store,
    ) as live:  # fmt: skip
        yield OwnEngine(live)
