"""`longtake worker`: runs rows of a batch that another machine drives."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import click
from rich.console import Console
from yarl import URL

from ...core.checkout import ComfyCore
from ..batch.servers.address import driver_url, server_url
from ..console.options import core_options, is_written, metadata_option, store_option
from ..console.reporting import report_failures
from ..console.values import FILE, Number, Parsed
from ..events import RunFiles
from ..leases.key import read_key
from ..leases.messages import check_name


@click.command()
@click.option("--join", "driver", type=Parsed(driver_url), required=True, metavar="URL",
              help="The driver's address, as `longtake batch --serve` prints it.")  # fmt: skip
@click.option("--key-file", type=FILE, metavar="FILE",
              help="The file with the driver's key (default: $LONGTAKE_KEY).")  # fmt: skip
@click.option("--server", type=Parsed(server_url), metavar="URL",
              help="Run the rows on this ComfyUI server instead of in this process.")  # fmt: skip
@click.option("--shared", type=FILE, metavar="DIR",
              help="The driver's --out as seen here; then no file is sent.")  # fmt: skip
@click.option("--work", type=FILE, default=Path("worker"), show_default=True, metavar="DIR",
              help="Folder for the files of this worker's unfinished rows.")  # fmt: skip
@click.option("--name", type=Parsed(check_name), metavar="NAME",
              help="A name that no other worker has (default: host and process).")  # fmt: skip
@click.option("--patience", type=Number(min=0), default=600.0, show_default=True,
              metavar="SECONDS", help="Time to wait for a silent driver or server.")  # fmt: skip
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@core_options
@metadata_option
@store_option
def worker(  # noqa: PLR0913
    driver: URL,
    key_file: Path | None,
    server: URL | None,
    shared: Path | None,
    work: Path,
    name: str | None,
    patience: float,
    comfy: ComfyCore | None,
    store: str | None,
    disable_metadata: bool,
    debug: bool,
) -> None:
    """Run rows of a batch that `longtake batch --serve` drives.

    Workers join and leave at any time. Each runs one row after another. The rows of a worker that
    is lost go to the others.
    """
    from ..leases.worker.joining import Joining, join  # aiohttp takes half a second to import

    if server is not None and is_written("store"):
        raise click.UsageError("With --server, start that server with LONGTAKE_STORE")
    if server is not None and is_written("comfy"):
        raise click.UsageError("Give --server or --comfy: a server has its own ComfyUI")
    if server is not None and disable_metadata:
        raise click.UsageError("With --server, start that server with --disable-metadata")
    console = Console(soft_wrap=True)
    hint = "Interrupted."  # the worker has said what becomes of its row, if it had one
    with report_failures(console, RunFiles(), debug=debug, resume_hint=lambda _: hint):
        joining = Joining(
            driver, read_key(key_file), name or _own_name(), patience, work, shared,
            server, comfy, store, disable_metadata,
        )  # fmt: skip
        join(joining, console)


def _own_name() -> str:
    """Return a name that no other worker has; letters that a name cannot have are left out."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "", socket.gethostname()).lstrip("_.-")[:40]
    return f"{host or 'worker'}-{os.getpid()}"
