"""A prompt's entry in a server's history: its outcome, report and files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....errors import is_own_type
from ...events import REPORT_UI, role_of
from ..record import SavedFile
from ..tables import FACTS
from .answers import (
    MAX_TEXT,
    BadAnswer,
    as_object,
    decode,
    last_events,
    numbers,
    run_seconds,
    short,
)
from .client import Client

Entry = Mapping[str, Any]
Place = dict[str, str]  # filename, subfolder and type, the parameters of /view
ROLES = ("video", "contact_sheet", "report", "frames")
MAX_FILES = 1_000_000  # of one row: half a day of frames
MAX_NAME_BYTES = 150  # file systems allow 255, with our endings
FRAME_PATTERN = re.compile(r"([^%]*)%0?([0-9]{0,2})d([^%]*)")
UNSAFE = re.compile(r'[\x00-\x1f\x7f:*?"<>|]')


def outcome(entry: Entry) -> tuple[float | None, dict[str, object], str | None]:
    """Return the run time in seconds, the numbers of Save Video's report ({} without one), and an
    error or None; raise `BadAnswer` for an entry that no ComfyUI writes.
    """
    status = as_object(entry.get("status") or {}, "the status of a prompt")
    events = last_events(status)
    problem = _problem(status, events)
    if problem is None and not _describe(entry):
        raise BadAnswer(
            "it reports success without any output (does the workflow save something there?)"
        )
    return run_seconds(events), _report(entry), problem


async def fetch(client: Client, entry: Entry, out: Path, folder: str) -> list[SavedFile]:
    """Copy every output file of a finished prompt into `out / folder`, and return the files."""
    saved: list[SavedFile] = []
    names = _Names()
    for role, place, parent in _places(entry):
        if len(saved) == MAX_FILES:
            raise BadAnswer(f"it lists more than {MAX_FILES} files for one row")
        name = names.free(parent, place["filename"])
        await client.download(place, out / folder / name)
        saved.append(SavedFile(role, f"{folder}/{name}"))
    return saved


def _describe(entry: Entry) -> list[dict[str, Any]]:
    """Return what each node showed."""
    outputs = as_object(entry.get("outputs") or {}, "the outputs of a prompt")
    return [as_object(shown, "the output of a node") for shown in outputs.values()]


def _places(entry: Entry) -> Iterator[tuple[str, Place, str]]:
    """Yield role, place and local subfolder of each file, except files in the temp folder."""
    for shown in _describe(entry):
        for listed in shown.values():
            for file in listed if isinstance(listed, list) else ():
                if not isinstance(file, dict) or file.get("type") != "output":
                    continue
                if "filename" in file:
                    name = _text(file, "filename")
                    yield _role({**file, "filename": name}), _place(file, name), ""
                elif "pattern" in file:
                    yield from _frame_places(file)


def _frame_places(listed: Mapping[str, Any]) -> Iterator[tuple[str, Place, str]]:
    pattern, count = FRAME_PATTERN.fullmatch(_text(listed, "pattern")), listed.get("count")
    if pattern is None:
        raise BadAnswer(f"it names frames {short(repr(listed['pattern']), 60)}")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_FILES:
        raise BadAnswer(f"it lists {short(repr(count), 60)} frames for one row")
    before, digits, after = pattern.groups()
    parent = _last_part(_text(listed, "subfolder") if listed.get("subfolder") else "")
    for number in range(count):
        yield "frames", _place(listed, f"{before}{number:0{digits or 1}d}{after}"), parent


def _place(listed: Mapping[str, Any], filename: str) -> Place:
    subfolder = _text(listed, "subfolder") if listed.get("subfolder") else ""
    return {"filename": filename, "subfolder": subfolder, "type": "output"}


def _text(listed: Mapping[str, Any], name: str) -> str:
    value = listed.get(name)
    if not isinstance(value, str) or not value:
        raise BadAnswer(f"it lists a file whose {name} is {short(repr(value), 60)}")
    return value


def _role(file: Mapping[str, Any]) -> str:
    role = role_of(file)
    return role if role in ROLES else role_of({"filename": file["filename"]})


@dataclass(slots=True)
class _Names:
    """The names in a row's folder; systems that ignore case see each only once."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def free(self, parent: str, filename: str) -> str:
        """Return an unused name inside the row's folder for a file of any name."""
        while parent.lower() in self.files:
            parent += "-frames"
        own = Path(_last_part(filename))
        name, number = f"{parent}/{own}".removeprefix("/"), 1
        while name.lower() in self.files or name.lower() in self.folders:
            number += 1
            name = f"{parent}/{own.stem}-{number}{own.suffix}".removeprefix("/")
        self.files.add(name.lower())
        self.folders.add(parent.lower())
        return name


def _last_part(path: str) -> str:
    """Return the last part of a path as a file name of any system."""
    part = UNSAFE.sub("_", path.replace("\\", "/").rstrip("/").rpartition("/")[2]).rstrip(". ")
    if not part:
        return "file"
    ending = Path(part).suffix.encode()[:20]
    stem = part.encode()[: len(part.encode()) - len(ending)][: MAX_NAME_BYTES - len(ending)]
    return (stem + ending).decode(errors="ignore")


def _report(entry: Entry) -> dict[str, object]:
    for shown in _describe(entry):
        texts = shown.get(REPORT_UI)
        for text in texts if isinstance(texts, list) else ():
            return numbers(decode(text) if isinstance(text, str) else None, FACTS)
    return {}


def _problem(status: Mapping[str, Any], events: Mapping[str, Mapping[str, Any]]) -> str | None:
    if "execution_error" in events:
        return short(_failure(events["execution_error"]), MAX_TEXT)
    if "execution_interrupted" in events:
        return "cancelled on the server; run the same command again to retry"
    result = status.get("status_str", "success")
    if result not in ("success", "error"):
        raise BadAnswer(f"a prompt ended there as {short(repr(result), 60)}")
    return "the server reports a failure without a reason" if result == "error" else None


def _failure(error: Mapping[str, Any]) -> str:
    label = f"Node {error.get('node_id')} ({error.get('node_type')})"
    message = " ".join(str(error.get("exception_message", "")).split())
    kind = str(error.get("exception_type", ""))
    return f"{label}: {message}" if is_own_type(kind) else f"{label} failed with {kind}: {message}"
