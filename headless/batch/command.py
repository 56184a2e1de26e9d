"""The command `longtake batch`, here or with --server on ComfyUI servers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from ...stream.journal.lock import ProcessLock
from ..console.options import FILE, common_options, parse_changes
from ..console.reporting import print_failure, print_files, reported
from ..events import Made
from ..runner import Job, prepare_folder
from ..session import Session, session
from .local import jobs, note_end
from .params import read_table
from .record import DONE, FAILED, QUEUED, WAITING, Record, Records
from .results import write_results
from .row import Order

LOCK_FILE = "batch.lock"


@click.command()
@click.argument("workflows", type=FILE, nargs=-1)
@click.option("--workflow", "one", type=FILE, metavar="FILE", help="The same as WORKFLOWS.")
@click.option(
    "--params",
    type=FILE,
    metavar="FILE",
    help="Rows to run (.csv, .tsv, .json, .jsonl); columns are called NODE.INPUT.",
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="URL",
    help="Run on this ComfyUI server; repeat it to share the rows among several.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a server that does not answer.",
)
@common_options
def batch(  # noqa: PLR0913
    workflows: tuple[Path, ...],
    one: Path | None,
    params: Path | None,
    servers: tuple[str, ...],
    patience: float,
    changes: tuple[str, ...],
    out: Path,
    comfy: Path | None,
    debug: bool,
) -> None:
    """Run several workflows, a table of rows (--params), or a grid: repeat --set on one input.

    A failing run does not stop the others. OUT/results.html and results.csv show what came out.
    With --server the same command goes on where a stopped one was.
    """
    paths = workflows if one is None else (*workflows, one)
    if not paths:
        raise click.UsageError("give at least one WORKFLOW")
    console = Console(soft_wrap=True)
    records = Records(out)
    how = _how_to_go_on(records) if servers else None
    with reported(console, Made(), debug=debug, how_to_go_on=how):
        prepare_folder(out)
        table = read_table(params) if params else None
        order = Order(paths, parse_changes(changes), table)
        with ProcessLock(out / LOCK_FILE, f"A batch into {out}"), _results(records, console):
            if servers:
                _run_there(order, servers, patience, records, console)
            else:
                _run_here(list(jobs(order, out)), comfy, records, console, debug=debug)
    if any(row.state != DONE for row in records.rows):
        raise SystemExit(1)


def _run_here(
    planned: list[tuple[Job, Record]],
    comfy: Path | None,
    records: Records,
    console: Console,
    *,
    debug: bool,
) -> None:
    records.start(record for _, record in planned)
    with session(console, comfy, records.out) as live:
        for job, record in planned:
            count = f"[{record.number}/{len(planned)}]"
            console.print(escape(f"{count} {job}"), highlight=False)
            _run_one(live, job, record, records, console, debug=debug)


def _run_one(
    live: Session, job: Job, record: Record, records: Records, console: Console, *, debug: bool
) -> None:
    made, started, problem = Made(), time.monotonic(), None
    try:
        live.run(job, made)
    except Exception as error:
        problem = print_failure(console, error, debug=debug)
    seconds = time.monotonic() - started
    if problem is None:
        print_files(console, made, seconds)
    note_end(record, made, records.out, seconds=seconds, error=problem)
    records.save()


def _run_there(
    order: Order, servers: tuple[str, ...], patience_s: float, records: Records, console: Console
) -> None:
    # Imported here because the other commands need no aiohttp, which takes half a second.
    from .client import server_url
    from .remote import run_on_servers

    urls = tuple(server_url(text) for text in servers)
    records.resume()
    asyncio.run(run_on_servers(order, urls, patience_s, records, console))


@contextmanager
def _results(records: Records, console: Console) -> Iterator[None]:
    """Write the tables however the block ends, and say how the rows stand."""
    try:
        yield
    finally:
        if records.rows:
            page = write_results(records.rows, records.out)
            console.print(escape(f"{_counts(records.rows)}; see {page}"), highlight=False)


def _counts(rows: Sequence[Record]) -> str:
    states = Counter(row.state for row in rows)
    left = states[WAITING] + states[QUEUED]
    not_run = f", {left} left to the next run of this command" if left else ""
    return f"{states[DONE]} done, {states[FAILED]} failed{not_run}"


def _how_to_go_on(records: Records) -> Callable[[Made], str]:
    def text(_: Made) -> str:
        queued = sorted({row.server or "" for row in records.rows if row.state == QUEUED})
        there = f" What is queued on {', '.join(queued)} goes on there." if queued else ""
        return f"Interrupted.{there} Run the same command again to go on; nothing is run twice."

    return text
