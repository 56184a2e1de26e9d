"""The command `longtake batch`: on this machine, on ComfyUI servers, or on workers that join."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from yarl import URL

from ...core.checkout import ComfyCore
from ...stream.journal.lock import ProcessLock
from ..batch.local import plan, record_end
from ..batch.params import read_table
from ..batch.record import DONE, FAILED, QUEUED, WAITING, Record, Records
from ..batch.results import write_results
from ..batch.row import BatchSpec
from ..batch.servers.address import server_url
from ..console.options import common_options, is_written
from ..console.reporting import print_failure, print_files, report_failures
from ..console.values import FILE, Number, Parsed
from ..events import RunFiles
from ..leases.driver.driving import Driving, drive, driver_options
from ..runner import Job, prepare_folder
from ..session import Session, session
from ..workflow.overrides import Override

LOCK_FILE = "batch.lock"


@click.command()
@click.argument("workflows", type=FILE, nargs=-1)
@click.option("--workflow", "workflow", type=FILE, metavar="FILE", help="One more workflow.")
@click.option(
    "--params",
    type=FILE,
    metavar="FILE",
    help="Rows to run (.csv, .tsv, .json, .jsonl); each column is a NODE.INPUT.",
)
@click.option(
    "--server",
    "servers",
    type=Parsed(server_url),
    multiple=True,
    metavar="URL",
    help="Run on this ComfyUI server; repeat the option to share rows among servers.",
)
@click.option(
    "--patience",
    type=Number(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to wait for a server that does not answer.",
)
@driver_options
@common_options
def batch(  # noqa: PLR0913
    workflows: tuple[Path, ...],
    workflow: Path | None,
    params: Path | None,
    servers: tuple[URL, ...],
    patience: float,
    driving: Driving | None,
    changes: tuple[Override, ...],
    out: Path,
    comfy: ComfyCore | None,
    store: str | None,
    disable_metadata: bool,
    debug: bool,
) -> None:
    """Run many workflows, table rows or a grid.

    Give several WORKFLOWS, a table of rows (--params), or repeat --set on one input for a grid. A
    failing run does not stop the others. OUT/results.html and results.csv show the results. The
    same command resumes a stopped batch.
    """
    paths = workflows if workflow is None else (*workflows, workflow)
    if not paths:
        raise click.UsageError("Give at least one WORKFLOW")
    _check_options(servers, driving, disable_metadata=disable_metadata)
    console = Console(soft_wrap=True)
    records = Records(out)
    hint = _resume_hint(records, driving)
    with report_failures(console, RunFiles(), debug=debug, resume_hint=hint):
        table = read_table(params) if params else None
        spec = BatchSpec(paths, changes, table)
        prepare_folder(out)
        lock = ProcessLock(out / LOCK_FILE, f"A batch into {out}", "give another --out")
        with lock, _results(records, console):
            if driving:
                driving = replace(driving, disable_metadata=disable_metadata)
                drive(spec, driving, comfy, store, records, console)
            elif servers:
                _run_there(spec, servers, patience, records, console)
            else:
                opening = session(
                    console, comfy, out, disable_metadata=disable_metadata, store=store
                )
                _run_here(spec, opening, records, console, debug=debug)
    if any(row.state != DONE for row in records.rows):
        raise SystemExit(1)


def _check_options(
    servers: tuple[URL, ...], driving: Driving | None, *, disable_metadata: bool
) -> None:
    """Refuse options that would have no effect; UsageError says where they belong."""
    if servers and is_written("comfy"):
        raise click.UsageError("Give --server or --comfy: a server has its own ComfyUI")
    if not servers and is_written("patience"):
        raise click.UsageError("--patience needs --server; a worker has a --patience of its own")
    if servers and disable_metadata:
        raise click.UsageError("With --server, start the servers with --disable-metadata")
    if driving and driving.ray is None and disable_metadata:
        raise click.UsageError("With --serve, give --disable-metadata to each worker")
    if servers and driving:
        raise click.UsageError("Give --server, or --serve or --ray; a worker may have a --server")
    if is_written("store") and (servers or (driving and driving.ray is None)):
        raise click.UsageError(
            "With --serve, give --store to each worker; with --server, start the servers with "
            "LONGTAKE_STORE"
        )


def _run_here(
    spec: BatchSpec,
    opening: AbstractContextManager[Session],
    records: Records,
    console: Console,
    *,
    debug: bool,
) -> None:
    with opening as live:
        planned = plan(spec, live.host, records)
        for job, record in planned:
            count, is_done = f"[{record.number}/{len(planned)}]", record.state == DONE
            done = ": done by an earlier run" if is_done else ""
            console.print(escape(f"{count} {job}{done}"), highlight=False)
            if not is_done:
                _run_one(live, job, record, records, console, debug=debug)


def _run_one(
    live: Session, job: Job, record: Record, records: Records, console: Console, *, debug: bool
) -> None:
    run_files, started, problem = RunFiles(), time.monotonic(), None
    try:
        live.run(job, run_files)
    except Exception as error:
        problem = print_failure(console, error, debug=debug)
    seconds = time.monotonic() - started
    if problem is None:
        print_files(console, run_files, seconds)
    record_end(record, run_files, records.out, seconds=seconds, error=problem)
    records.save(record)


def _run_there(
    spec: BatchSpec, servers: tuple[URL, ...], patience_s: float, records: Records, console: Console
) -> None:
    from ..batch.servers.remote import run_on_servers  # aiohttp takes half a second to import

    records.resume()
    asyncio.run(run_on_servers(spec, servers, patience_s, records, console))


@contextmanager
def _results(records: Records, console: Console) -> Iterator[None]:
    """Write the result tables however the block ends, and print the totals."""
    try:
        yield
    finally:
        if records.rows:
            page = write_results(records.rows, records.out)
            console.print(escape(f"{_counts(records.rows)}; see {page}"), highlight=False)


def _counts(rows: Sequence[Record]) -> str:
    states = Counter(row.state for row in rows)
    left = states[WAITING] + states[QUEUED]
    not_run = f", {left} left for the next run of this command" if left else ""
    return f"{states[DONE]} done, {states[FAILED]} failed{not_run}"


def _resume_hint(records: Records, driving: Driving | None) -> Callable[[RunFiles], str]:
    actors_end = driving is not None and driving.ray is not None  # Ray ends them with us

    def text(_: RunFiles) -> str:
        rows = [] if actors_end else records.rows
        queued = sorted({row.server or "" for row in rows if row.state == QUEUED})
        there = f" Rows queued on {', '.join(queued)} continue there." if queued else ""
        return f"Interrupted.{there} Run the same command again to resume; nothing runs twice."

    return text
