"""`longtake worker`: runs rows of a batch that another machine drives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click
from rich.console import Console

from ...core_checkout import ComfyCore
from ...errors import BadInput
from ..console.options import core_options, is_written, metadata_option, store_option
from ..console.reporting import report_failures
from ..console.values import FILE, TEXT, Number
from ..events import RunFiles
from ..leases.key import read_key
from ..leases.messages import WORKER


@click.command()
@click.option("--join", "driver", type=TEXT, required=True, metavar="URL",
              help="The driver's address, as `longtake batch --serve` prints it.")  # fmt: skip
@click.option("--key-file", type=FILE, metavar="FILE",
              help="The file with the driver's key (default: $LONGTAKE_KEY).")  # fmt: skip
@click.option("--server", type=TEXT, metavar="URL",
              help="Run the rows on this ComfyUI server instead of in this process.")  # fmt: skip
@click.option("--shared", type=FILE, metavar="DIR",
              help="The driver's --out as seen here; then no file is sent.")  # fmt: skip
@click.option("--work", type=FILE, default=Path("worker"), show_default=True, metavar="DIR",
              help="Folder for the files of this worker's unfinished rows.")  # fmt: skip
@click.option("--name", type=TEXT, metavar="NAME",
              help="A name that no other worker has (default: host and process).")  # fmt: skip
@click.option("--patience", type=Number(min=0), default=600.0, show_default=True,
              metavar="SECONDS", help="Time to wait for a silent driver.")  # fmt: skip
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@core_options
@metadata_option
@store_option
def worker(  # noqa: PLR0913
    driver: str,
    key_file: Path | None,
    server: str | None,
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
    from ..batch.client import server_url  # aiohttp takes half a second to import
    from ..leases.joining import Joining, join

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
            server_url(driver, "--join"), read_key(key_file), _name(name), patience, work, shared,
            server, comfy, store, disable_metadata,
        )  # fmt: skip
        join(joining, console)


def _name(text: str | None) -> str:
    """Return the worker's name; raise BadInput."""
    name = text or f"{socket.gethostname()[:40]}-{os.getpid()}"
    if not WORKER.fullmatch(name):
        raise BadInput(
            f"--name {name!r} is not a name: up to 64 letters, digits, dots, dashes, underscores."
        )
    return name
