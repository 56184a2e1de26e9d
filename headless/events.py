"""What a running workflow tells the command line, from either host, and the files it made.

Nodes speak the host's own language (ProgressBar, PromptServer events, ui results); the hosts turn
that into these few types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

CHUNK_EVENT = "longtake.chunk"
FILE_EVENT = "longtake.file"


@dataclass(frozen=True, slots=True)
class BarMoved:
    """A node's progress bar moved."""

    node_id: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """Chunk number `chunk` (from 0) of a rollout is finished; what is not known is None."""

    chunk: int
    chunks: int | None = None
    frames: int = 0
    frames_total: int | None = None
    first_frame_s: float | None = None
    frames_per_s: float | None = None
    eta_s: float | None = None
    resumed_from_chunk: int | None = None


@dataclass(frozen=True, slots=True)
class FileSaved:
    """A file is on disk under its final name; role is video, contact_sheet, report or frames."""

    role: str
    path: Path


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the user."""

    text: str


Event = BarMoved | ChunkDone | FileSaved | Notice
Listener = Callable[[Event], None]


@dataclass(slots=True)
class Made:
    """Collects the files and the last chunk of one run; hand its `add` every event."""

    files: list[FileSaved] = field(default_factory=list)
    last: ChunkDone | None = None

    def add(self, event: Event) -> None:
        """Note what `event` made."""
        if isinstance(event, ChunkDone):
            self.last = event
        elif isinstance(event, FileSaved) and event.path not in [file.path for file in self.files]:
            self.files.append(event)

    def paths(self, role: str) -> list[Path]:
        """The files made in that role."""
        return [file.path for file in self.files if file.role == role]


def from_message(
    name: str, payload: Mapping[str, object], folders: Mapping[str, Path]
) -> Event | None:
    """The event in a server message; `folders` maps the host's folder types to paths."""
    if name == CHUNK_EVENT:
        known = ChunkDone.__dataclass_fields__
        values = {key: value for key, value in payload.items() if key in known}
        return ChunkDone(**cast("dict[str, int]", values))
    if name == FILE_EVENT:
        return FileSaved(str(payload["role"]), _path(payload, folders))
    return None


def from_ui(ui: Mapping[str, object], folders: Mapping[str, Path]) -> list[FileSaved]:
    """The files that a node's ui result lists, without those in the temp folder."""
    entries = [
        entry
        for values in ui.values()
        if isinstance(values, list | tuple)
        for entry in values
        if isinstance(entry, Mapping) and entry.get("type") == "output" and "filename" in entry
    ]
    return [FileSaved(role_of(entry), _path(entry, folders)) for entry in entries]


def role_of(entry: Mapping[str, object]) -> str:
    """What a listed file is: what its node says, else by the ending of its name."""
    roles = {".mp4": "video", ".mkv": "video", ".webm": "video", ".json": "report"}
    ending = Path(str(entry["filename"])).suffix.lower()
    return str(entry.get("role") or roles.get(ending, "frames"))


def _path(entry: Mapping[str, object], folders: Mapping[str, Path]) -> Path:
    return folders[str(entry["type"])] / str(entry.get("subfolder", "")) / str(entry["filename"])
