"""A prompt's entry in a server's history: its outcome, report and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..events import role_of
from .client import Client
from .record import SavedFile

Entry = Mapping[str, Any]
Place = dict[str, str]  # filename, subfolder and type, the parameters of /view


def outcome(entry: Entry) -> tuple[float | None, dict[str, object], str | None]:
    """Return the run time in seconds, Save Video's report ({} without one), and an error or
    None.
    """
    status = entry.get("status") or {}
    ends = {name: data for name, data in status.get("messages", [])}
    return _seconds(ends), _report(entry), _problem(status, ends)


async def fetch(client: Client, entry: Entry, out: Path, folder: str) -> list[SavedFile]:
    """Copy every output file of a finished prompt into `out / folder`, and return the files."""
    saved: list[SavedFile] = []
    taken: set[str] = set()
    for role, place, parent in _places(entry):
        name = _free_name(parent, place["filename"], taken)
        await client.download(place, out / folder / name)
        saved.append(SavedFile(role, f"{folder}/{name}"))
    return saved


def _places(entry: Entry) -> Iterator[tuple[str, Place, str]]:
    """Yield role, place and local subfolder of each file, except files in the temp folder."""
    for shown in entry.get("outputs", {}).values():
        for listed in shown.values():
            for file in listed if isinstance(listed, list) else ():
                if not isinstance(file, dict) or file.get("type") != "output":
                    continue
                if "filename" in file:
                    yield role_of(file), _place(file, str(file["filename"])), ""
                elif "pattern" in file:
                    parent = _last_part(str(file["subfolder"]))
                    for number in range(int(file["count"])):
                        yield "frames", _place(file, str(file["pattern"]) % number), parent


def _place(listed: Mapping[str, Any], filename: str) -> Place:
    return {
        "filename": filename,
        "subfolder": str(listed.get("subfolder") or ""),
        "type": "output",
    }


def _free_name(parent: str, filename: str, taken: set[str]) -> str:
    """Return an unused name inside the row's folder for a file of any name."""
    own = Path(_last_part(filename))
    name, number = f"{parent}/{own}".removeprefix("/"), 1
    while name in taken:
        number += 1
        name = f"{parent}/{own.stem}-{number}{own.suffix}".removeprefix("/")
    taken.add(name)
    return name


def _last_part(path: str) -> str:
    part = path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "file" if part in ("", ".", "..") else part.replace("\0", "_").replace(":", "_")


def _seconds(ends: Mapping[str, Any]) -> float | None:
    start = ends.get("execution_start", {}).get("timestamp")
    times = [data["timestamp"] for data in ends.values() if "timestamp" in data]
    return (max(times) - start) / 1000 if start is not None else None


def _report(entry: Entry) -> dict[str, object]:
    for shown in entry.get("outputs", {}).values():
        for text in shown.get("longtake_report", []):
            report: dict[str, object] = json.loads(text)
            return report
    return {}


def _problem(status: Mapping[str, Any], ends: Mapping[str, Any]) -> str | None:
    if "execution_error" in ends:
        error = ends["execution_error"]
        label = f"node {error.get('node_id')} ({error.get('node_type')})"
        message = " ".join(str(error.get("exception_message", "")).split())
        kind = str(error.get("exception_type", ""))
        ours = ".errors." in kind
        return f"{label}: {message}" if ours else f"{label} failed with {kind}: {message}"
    if "execution_interrupted" in ends:
        return "cancelled on the server; run the same command again to retry"
    if status.get("status_str") == "error":
        return "the server reports a failure without a reason"
    return None
