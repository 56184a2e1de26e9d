"""Workers on a Ray cluster: actors that join the driver as any other worker does.

A lease is all that a worker has, so Ray needs to know nothing about rows. It starts an actor again
where one died (docs.ray.io, "Actor fault tolerance"), and elsewhere where its machine is gone.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from yarl import URL

from ....core.checkout import ComfyCore
from ....errors import BadInput, LongtakeError

MISSING = (
    "--ray needs Ray on every machine of the cluster: pip install ray, or start "
    "`longtake worker` there yourself."
)

NAMED_CLUSTERS = "auto", "local"
"""What --ray takes in place of an address: the cluster that runs here, and one for this run."""
ANSWER_S = 10.0
"""How long a cluster has to accept a connection."""


@contextmanager
def ray_cluster(address: str) -> Iterator[str]:
    """Connect to a cluster (`auto`, `local` or HOST:PORT); yield this machine's address in it."""
    ray = _ray()
    if address not in NAMED_CLUSTERS:
        _expect_answer(address)
    terminate = signal.getsignal(signal.SIGTERM)  # Ray puts in a handler that ends at once
    try:
        ray.init(address=None if address == "local" else address, log_to_driver=False)
        signal.signal(signal.SIGTERM, terminate)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInput(f"--ray {address!r}: there is no cluster ({error}).") from error
    try:
        yield str(ray.util.get_node_ip_address())
    finally:
        ray.shutdown()


@dataclass(frozen=True, slots=True)
class ClusterWorkers:
    """How many workers to start, and what each of them needs beside the driver's address."""

    count: int
    key: str = field(repr=False)
    comfy: ComfyCore | None = None
    store: str | None = field(default=None, repr=False)
    disable_metadata: bool = False


def starter(
    workers: ClusterWorkers, console: Console, *, is_alone: bool = False
) -> Callable[[str], Callable[[], None]]:
    """Return a function that starts the workers for the driver at an address.

    The function returns a check of the workers, `Crew.check`. With `is_alone`, no others may join.
    """

    def start(driver: str) -> Callable[[], None]:
        ray = _ray()
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") else "CPU"
        slot = {f"num_{kind.lower()}s": 1}  # Ray shows an actor its own GPU alone
        actor = ray.remote(max_restarts=-1, max_task_retries=-1, **slot)(RowActor)
        crew = Crew(console, is_alone=is_alone)
        for number in range(workers.count):
            worker = actor.remote()
            crew.working.append((worker, worker.work.remote(driver, f"ray-{number}", workers)))
        line = describe_start(workers.count, int(resources.get(kind, 0)), kind)
        console.print(escape(line), highlight=False)
        return crew.check

    return start


@dataclass(slots=True)
class Crew:
    """Actors and the work of each. Ray ends an actor that nobody refers to, and frees its slot."""

    console: Console
    is_alone: bool
    working: list[tuple[Any, Any]] = field(default_factory=list)

    def check(self) -> None:
        """Tell why workers have failed; LongtakeError if none is left and no other may join.

        Ray starts a worker again that died, but not one whose store or model cannot be used.
        """
        ray, failures = _ray(), list[str]()
        works = [work for _, work in self.working]
        ended, _ = ray.wait(works, num_returns=len(works), timeout=0) if works else ([], [])
        for work in ended:
            try:
                ray.get(work)
            except Exception as error:  # whatever a worker raised, as Ray brings it
                failures.append(_last_line(getattr(error, "cause", None) or error))
        self.working = [pair for pair in self.working if pair[1] not in ended]
        for reason in failures:
            line = f"A worker on the Ray cluster has failed: {reason}"
            self.console.print(escape(line), highlight=False)
        if failures and not self.working and self.is_alone:
            raise LongtakeError(
                "No worker is left on the Ray cluster; mend what is named above, then run the same "
                "command again."
            )


def _last_line(error: BaseException) -> str:
    """What an error says, without the traceback that Ray puts before it."""
    if isinstance(error, LongtakeError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def describe_start(workers: int, slots: int, kind: str) -> str:
    """Say how many workers start, and how many wait for one of the GPUs or CPUs."""
    start = "1 worker starts" if workers == 1 else f"{workers} workers start"
    if workers <= slots:
        return f"{start} on the Ray cluster."
    waiting = workers - slots
    wait = "waits" if waiting == 1 else "wait"
    has = f"{slots} {kind}" if slots == 1 else f"{slots} {kind}s"
    return f"{start} on the Ray cluster: it has {has}, so {waiting} {wait}."


def _expect_answer(address: str) -> None:
    """Raise BadInput where nothing answers at HOST:PORT: Ray alone tries for minutes, silently."""
    try:
        place = URL(address if "://" in address else f"//{address}")
        if not place.host or not place.port:
            raise ValueError("an address is HOST:PORT")
        socket.create_connection((place.host, place.port), ANSWER_S).close()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"--ray {address!r}: nothing answers there ({error}). Start a cluster there with "
            "`ray start --head --port=6379`, or choose `local`."
        ) from error


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise BadInput(MISSING) from error


def work_folder() -> Path:
    """The folder of this machine's actors. Each user has one: no other may write into it."""
    user = "" if sys.platform == "win32" else f"-{os.getuid()}"  # Windows' own is a user's
    return Path(tempfile.gettempdir(), f"longtake-ray{user}")


class RowActor:
    """One worker on one GPU, or on one CPU slot."""

    def work(self, driver: str, name: str, workers: ClusterWorkers) -> int:
        """Work until the batch is done; return the number of rows that ended here."""
        from ..worker.joining import Joining, join

        folder = work_folder() / name
        own = f"{name}-{os.getpid()}"
        joining = Joining(
            URL(driver), workers.key, own, 600.0, folder, comfy=workers.comfy, store=workers.store,
            disable_metadata=workers.disable_metadata,
        )  # fmt: skip
        return join(joining, Console(quiet=True))
