"""How `longtake batch` becomes a driver of workers: its options, and the rows it checks first."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ....core.checkout import ComfyCore
from ...batch.local import check_rows
from ...batch.record import Records
from ...batch.row import BatchSpec
from ...console.options import is_written
from ...console.values import FILE, TEXT, FiniteNumber, Parsed
from ...session import session
from ..key import VARIABLE, read_key
from .place import LEASE_S, Place, parse_place
from .ray_cluster import ClusterWorkers, ray_cluster, starter

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Driving:
    """Where workers join: at `serve`, with the key in `key_file`; `workers` of them on a Ray
    cluster, whose files hold no workflow with `disable_metadata`.
    """

    serve: str | None
    key_file: Path | None
    lease_s: float
    ray: str | None = None
    workers: int = 1
    disable_metadata: bool = False

    def place(self, own: str | None) -> Place:
        """Return where to listen: as the user says, else at this machine's own address."""
        place = parse_place(self.serve or f"{own}:0", self.lease_s)
        return replace(place, invites=self.serve is not None and not self.takes_random_key)

    def key(self) -> str:
        """Return the key; only workers of a cluster can be given a random one."""
        return secrets.token_urlsafe(32) if self.takes_random_key else read_key(self.key_file)

    @property
    def takes_random_key(self) -> bool:
        """Whether nobody has the key but the workers that this run starts."""
        return self.ray is not None and self.key_file is None and VARIABLE not in os.environ


def driver_options(command: Command) -> Command:
    """Add --serve, --key-file, --lease, --ray and --workers; the command gets `driving`, a Driving,
    or None.
    """

    @functools.wraps(command)
    def with_driving(
        *, serve: str | None, key_file: Path | None, lease: float, ray: str | None,
        workers: int, **others: Any,
    ) -> None:  # fmt: skip
        if serve is None and ray is None and key_file is not None:
            raise click.UsageError("--key-file needs --serve or --ray")
        if serve is None and ray is None and is_written("lease"):
            raise click.UsageError("--lease needs --serve or --ray")
        if ray is None and is_written("workers"):
            raise click.UsageError("--workers needs --ray; other workers join by themselves")
        driving = Driving(serve, key_file, lease, ray, workers) if serve or ray else None
        command(driving=driving, **others)

    for option in (
        click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True,
                     metavar="N", help="With --ray: the number of workers, each with a GPU, or a "
                     "CPU slot in a cluster without GPUs."),
        click.option("--ray", type=TEXT, metavar="ADDRESS",
                     help="Start workers on this Ray cluster: auto, local or HOST:PORT."),
        click.option("--lease", type=FiniteNumber(min=1), default=LEASE_S, show_default=True,
                     metavar="SECONDS", help="With --serve or --ray: the time after which the row "
                     "of a silent worker goes to another."),
        click.option("--key-file", type=FILE, metavar="FILE",
                     help="With --serve or --ray: the file with the workers' key (default: "
                     "$LONGTAKE_KEY)."),
        click.option("--serve", type=Parsed(_place_text), metavar="HOST:PORT",
                     help="Give the rows to `longtake worker`s that join here."),
    ):  # fmt: skip
        with_driving = option(with_driving)
    return with_driving


def _place_text(text: str) -> str:
    """Return HOST:PORT as written; raise BadInput."""
    parse_place(text)
    return text


def drive(
    spec: BatchSpec,
    driving: Driving,
    comfy: ComfyCore | None,
    store: str | None,
    records: Records,
    console: Console,
) -> None:
    """Run all rows on workers. They are checked here first, by the nodes of this machine.

    Workers of a cluster use the `store`; workers that join have one of their own.
    """
    from .driver import run_on_workers  # aiohttp takes half a second to import

    key = driving.key()
    with ExitStack() as stack:
        own = stack.enter_context(ray_cluster(driving.ray)) if driving.ray else None
        place = driving.place(own)
        workers = ClusterWorkers(driving.workers, key, comfy, store, driving.disable_metadata)
        alone = not place.invites
        start = starter(workers, console, is_alone=alone) if driving.ray else _start_nothing
        with session(console, comfy, records.out) as live:  # packs other than ours need `comfy`
            rows = check_rows(spec, live.host)
        records.resume()
        if driving.takes_random_key:
            records.free_rows()
        asyncio.run(run_on_workers(rows, records, place, key, console, start))


def _start_nothing(driver: str) -> None:
    """Workers join the driver by themselves."""
