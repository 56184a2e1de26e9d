"""Events of a running workflow for the command line, and the files of a run.

Nodes report through the host's own means (ProgressBar, PromptServer events, ui results). Each host
translates these into the few types here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

CHUNK_EVENT = "longtake.chunk"
FILE_EVENT = "longtake.file"
REPORT_UI = "longtake_report"


@dataclass(frozen=True, slots=True)
class BarMoved:
    """A node's progress bar moved."""

    node_id: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """Chunk number `chunk` (from 0) of a rollout is finished; unknown values are None.

    A chunk that is `from_disk` is an earlier run's, which may have made more than it.
    """

    chunk: int
    chunks: int | None = None
    frames: int = 0
    first_frame_s: float | None = None
    frames_per_s: float | None = None
    eta_s: float | None = None
    resumed_from_chunk: int | None = None
    latency: str = ""  # the figures in words
    from_disk: bool = False


@dataclass(frozen=True, slots=True)
class FileSaved:
    """A file on disk under its final name; role is video, contact_sheet, report or frames.

    One that `is_whole` is listed by a node that has ended; others may still grow.
    """

    role: str
    path: Path
    is_whole: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ReportShown:
    """The report of a saved video, field by field."""

    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Notice:
    text: str


Event = BarMoved | ChunkDone | FileSaved | ReportShown | Notice
Listener = Callable[[Event], None]


@dataclass(slots=True)
class RunFiles:
    """The files, first report and last chunk of one run; pass every event to `add`."""

    files: list[FileSaved] = field(default_factory=list)
    last: ChunkDone | None = None
    report: Mapping[str, object] | None = None

    def add(self, event: Event) -> None:
        """Record the file, report or chunk of `event`."""
        if isinstance(event, ChunkDone):
            self.last = event
        elif isinstance(event, ReportShown):
            self.report = self.report or event.values
        elif isinstance(event, FileSaved) and event.path not in [file.path for file in self.files]:
            self.files.append(event)

    def paths(self, role: str) -> list[Path]:
        """Return the files with that role."""
        return [file.path for file in self.files if file.role == role]


def from_message(
    name: str, payload: Mapping[str, object], folders: Mapping[str, Path]
) -> Event | None:
    """Convert a server message to an event; `folders` maps the host's folder types to paths."""
    if name == CHUNK_EVENT:
        known = ChunkDone.__dataclass_fields__
        values = {key: value for key, value in payload.items() if key in known}
        return ChunkDone(**cast("dict[str, Any]", values))
    if name == FILE_EVENT:
        return FileSaved(str(payload["role"]), _path(payload, folders))
    return None


def from_ui(ui: Mapping[str, object], folders: Mapping[str, Path]) -> list[Event]:
    """Return the files in a node's ui result, except files in the temp folder, and its report."""
    entries = [
        entry
        for values in ui.values()
        if isinstance(values, list | tuple)
        for entry in values
        if isinstance(entry, Mapping) and entry.get("type") == "output" and "filename" in entry
    ]
    files = [FileSaved(role_of(e), _path(e, folders), is_whole=True) for e in entries]
    texts = cast("Sequence[str]", ui.get(REPORT_UI, ()))
    return [*files, *(ReportShown(json.loads(text)) for text in texts)]


def role_of(entry: Mapping[str, object]) -> str:
    """Return a listed file's role: the node's own entry, else by file extension."""
    roles = {".mp4": "video", ".mkv": "video", ".webm": "video", ".json": "report"}
    ending = Path(str(entry["filename"])).suffix.lower()
    return str(entry.get("role") or roles.get(ending, "frames"))


def _path(entry: Mapping[str, object], folders: Mapping[str, Path]) -> Path:
    return folders[str(entry["type"])] / str(entry.get("subfolder", "")) / str(entry["filename"])
