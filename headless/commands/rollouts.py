"""`longtake rollouts`: list, show and delete the journal's finished and cancelled shots."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from ...errors import BadInput
from ...model.vae.latent_format import FORMATS, WAN21, frame_count
from ...stream.journal.cleanup import Usage, collect, usage
from ...stream.journal.fork_tree import fork_tree, last_change, render_tree
from ...stream.journal.journal import Journal
from ...stream.journal.records import Record, find_record
from ...stream.journal.shared_files import open_journal
from ...stream.store.opening import open_store
from ...stream.store.sharing import Sharing
from ...stream.timecode import time_label
from ...units import byte_size, count_of
from ..console.options import store_option
from ..console.reporting import report_failures
from ..console.values import FILE, TEXT, Parsed
from ..events import RunFiles
from .nearby import ROLLOUTS, check_output, check_store

SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}  # as `byte_size` writes them
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])I?B?|B)", re.IGNORECASE)
HEADINGS = ("id", "length", "size", "bytes", "own", "last used", "prompt, last change")


def size_bytes(written: str) -> int:
    """Parse a size such as `20GB`, `500M` or 0. A number alone, which may mean gigabytes or
    shots, is refused: what is removed does not come back.
    """
    if written.strip() == "0":
        return 0
    match = _SIZE.fullmatch(written.strip())
    if match is None:
        raise BadInput(f"{written!r} is not a size; write one such as 20GB, 500M or 0.")
    return int(float(match[1]) * SIZES[(match[2] or "").upper()])


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of a failure."),
        click.option("--json", "as_json", is_flag=True, help="Print as JSON."),
        click.option(
            "--out", type=FILE, default=Path("output"), metavar="DIR",
            help="Output folder of ComfyUI or of `longtake run` (default: output).",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group()
def rollouts() -> None:
    """List, show or delete stored rollouts."""


@rollouts.command(name="list")
@_options
@store_option
def list_command(out: Path, store: str | None, as_json: bool, debug: bool) -> None:
    """List all rollouts, the most recently used first.

    Bytes are those on this machine.
    """
    console = Console(soft_wrap=True)
    with report_failures(console, RunFiles(), debug=debug):
        now = usage(_journal(out, store))
        if as_json:
            click.echo(json.dumps([_facts(record, now) for record in now.records], indent=1))
            return
        if not now.records and not now.total_bytes:
            places = f"{out} and the store" if store else str(out)
            console.print(escape(f"There are no rollouts in {places}."), highlight=False)
            return
        rows = [HEADINGS, *(_cells(record, _facts(record, now)) for record in now.records)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
        for row in rows:
            columns = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
            console.print(escape("  ".join(columns)), highlight=False)
        unknown = sum(now.chunks[key] for key in now.unknown)
        more = f", {byte_size(unknown)} of it without a record" if unknown else ""
        console.print(f"{byte_size(now.total_bytes)} in all{more}.", highlight=False)


def _cells(record: Record, facts: dict[str, Any]) -> tuple[str, ...]:
    """A shot under `HEADINGS`, on a line that a terminal may break but no id."""
    words = filter(None, (facts["prompts"][0][1], last_change(record)))
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(facts["used_s"]))
    return (
        facts["id"], time_label(facts["seconds"]), f"{facts['width']}x{facts['height']}",
        byte_size(facts["bytes"]), byte_size(facts["own_bytes"]), used,
        " ".join("; ".join(words).split()),
    )  # fmt: skip


@rollouts.command()
@click.argument("name", type=TEXT, metavar="ID")
@_options
@store_option
def show(name: str, out: Path, store: str | None, as_json: bool, debug: bool) -> None:
    """Show one rollout and the tree of its forks.

    ID may be the beginning of an id.
    """
    console = Console(soft_wrap=True)
    with report_failures(console, RunFiles(), debug=debug):
        journal = _journal(out, store)
        record, now = find_record(journal, name), usage(journal)
        facts = _facts(record, now)
        if as_json:
            click.echo(json.dumps(facts, indent=1))
            return
        for label in ("id", "seconds", "chunks", "replaced", "bytes", "own_bytes"):
            console.print(f"{label:10} {facts[label]}", highlight=False)
        for label in ("prompts", "seeds", "guidance"):
            for start, value in facts[label]:
                at = time_label(frame_count(start) / facts["fps"] if start else 0.0)
                console.print(f"{label:10} {at}  {escape(str(value))}", highlight=False)
        for line in render_tree(fork_tree(now.records, record), record.id):
            console.print(escape(line), highlight=False)


@rollouts.command()
@click.option(
    "--keep",
    type=Parsed(size_bytes),
    required=True,
    metavar="SIZE",
    help="Largest total size to keep, in the units of the list: 20GB, 500M.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@_options
def gc(keep: int, dry_run: bool, out: Path, as_json: bool, debug: bool) -> None:
    """Delete the least recently used rollouts until SIZE is left.

    Keeps chunks that a kept rollout shares, and rollouts that are being generated. A store keeps
    all that it has.
    """
    console = Console(soft_wrap=True)
    with report_failures(console, RunFiles(), debug=debug):
        freed = collect(_journal(out), keep, dry_run=dry_run)
        removed = [record.id for record in freed.removed]
        if as_json:
            facts = {"removed": removed, "chunks": freed.chunks, "bytes": freed.bytes,
                     "left_bytes": freed.left_bytes,
                     "in_use": [record.id for record in freed.in_use],
                     "dry_run": dry_run}  # fmt: skip
            click.echo(json.dumps(facts, indent=1))
            return
        verb = "Would remove" if dry_run else "Removed"
        console.print(
            f"{verb} {count_of(len(removed), 'rollout')}, "
            f"{count_of(freed.chunks, 'chunk')}, {byte_size(freed.bytes)}; "
            f"{byte_size(freed.left_bytes)} are kept.",
            highlight=False,
        )
        for name in removed:
            console.print(f"  {name}", highlight=False)
        for record in freed.in_use:
            console.print(f"  {record.id} is in use and stays", highlight=False)


def _journal(out: Path, store: str | None = None) -> Journal:
    if store:
        check_store(store)
    elif not os.path.isdir(out):
        raise BadInput(f"There is no folder {out}; name the output folder with --out.")
    else:
        check_output(out)
    sharing = Sharing(open_store(store)) if store else None
    return open_journal(out / ROLLOUTS, sharing)


def _facts(record: Record, now: Usage) -> dict[str, Any]:
    """Return the known facts about a rollout."""
    facts = record.facts
    channels = facts.get("channels", WAN21.channels)  # missing in older records
    factor = FORMATS.get(channels, WAN21).spatial_factor
    return {
        "id": record.id,
        "chunks": len(record.keys),
        "replaced": record.replaced,
        "seconds": round(frame_count(record.latent_frames) / facts["fps"], 3),
        "width": facts["columns"] * factor,
        "height": facts["rows"] * factor,
        "bytes": now.bytes_of(record),
        "own_bytes": now.own_bytes(record),
        "used_s": record.used_s,
        **{name: facts[name] for name in ("fps", "prompts", "seeds", "guidance")},
    }
