"""What workers say to the driver, as checked values; `BadInput` for anything else."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ...errors import BadInput
from ..batch.record import SavedFile
from ..batch.servers.answers import MAX_TEXT, numbers, short
from ..batch.servers.outputs import MAX_FILES, ROLES
from ..batch.tables import FACTS
from ..json_text import parse_json
from .names import is_safe
from .queue import Ending, Lease

WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MAX_SECONDS, MAX_CHUNKS = 1e9, 1e9


def read_object(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a request."""
    try:
        content = parse_json(body.decode())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise BadInput("the request is no JSON object.")
    return content


def worker_name(content: Mapping[str, Any]) -> str:
    """Return the name under which a worker asks for a row."""
    name = content.get("worker")
    if not isinstance(name, str) or not WORKER.fullmatch(name):
        raise BadInput("a worker's name is up to 64 letters, digits, dots, dashes and underscores.")
    return name


def check_name(name: str) -> str:
    """Return a worker's name as its user writes it; raise BadInput."""
    if not WORKER.fullmatch(name):
        raise BadInput(
            f"{name!r} is not a name: up to 64 letters, digits, dots, dashes, underscores."
        )
    return name


def progress(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the finished chunks of a row and their number, None if they are not known."""
    match content:
        case {"done": int(done), "total": int(total)} if 0 <= done <= total <= MAX_CHUNKS:
            return int(done), int(total)
    return None


def lease_message(lease: Lease, seconds: float) -> dict[str, object]:
    """Return what a worker is told about its row."""
    record = lease.row.record
    return {
        "lease": lease.id, "row": lease.row_id, "number": lease.number, "seconds": seconds,
        "label": record.label, "workflow": lease.row.prompt(),
    }  # fmt: skip


def ending_message(ending: Ending) -> dict[str, object]:
    """Return what a worker says at the end of a row; `read_ending` reads it."""
    return {**asdict(ending), "report": dict(ending.report)}


def read_ending(content: Mapping[str, Any]) -> Ending:
    """Return how a row ended at its worker."""
    seconds, error = content.get("seconds"), content.get("error")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        raise BadInput("`seconds` of a row's end is no time.")
    if error is not None and not isinstance(error, str):
        raise BadInput("`error` of a row's end is no text.")
    report = tuple(numbers(content.get("report"), FACTS).items())
    text = None if error is None else short(error, MAX_TEXT)
    return Ending(math.ceil(seconds * 1000) / 1000, _files(content.get("files")), report, text)


def _files(listed: object) -> tuple[SavedFile, ...]:
    if not isinstance(listed, list) or len(listed) > MAX_FILES:
        raise BadInput("`files` of a row's end is no list of files.")
    return tuple(map(_file, listed))


def _file(item: object) -> SavedFile:
    role, path = (item.get("role"), item.get("path")) if isinstance(item, dict) else (None, None)
    if role not in ROLES or not isinstance(path, str) or not is_safe(path):
        raise BadInput(f"{short(repr(item), 60)} is no file of a row.")
    return SavedFile(role, path)
