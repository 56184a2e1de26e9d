"""Records: what each rollout in the journal is, and which chunks belong to it.

A record is a text file beside the chunks. Its first line describes the rollout. Each further line
holds the number, address and length of a chunk. Lines are only appended, so a torn last line does
no harm: the chunk itself is found by its address.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BadInput, StorageError
from ...samplers.guidance import Guidance
from ...samplers.settings import RolloutSettings
from .chain import Chain
from .journal import Journal

logger = logging.getLogger("longtake")

SUFFIX, FORMAT = ".rollout", "longtake"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One rollout in the journal.

    `facts` come from `rollout_facts`. `keys` are the addresses of its chunks in order, `frames` the
    latent frames of each. `owned` holds every address that the rollout ever had.
    """

    id: str
    facts: dict[str, Any]
    keys: tuple[str, ...]
    frames: tuple[int, ...]
    owned: frozenset[str]
    used_s: float  # the time of its last use, since the epoch

    @property
    def latent_frames(self) -> int:
        """The number of finished latent frames."""
        return sum(self.frames)

    @property
    def lock(self) -> str:
        """The rollout whose lock is held during production: for a live edit, its source."""
        return str(self.facts.get("lock", self.id))

    def start(self, chunk: int) -> int:
        """The first latent frame of a chunk."""
        return sum(self.frames[:chunk])


def rollout_facts(
    settings: RolloutSettings, *, channels: int, fps: float, lock: str
) -> dict[str, Any]:
    """Describe a rollout for people. Positions are latent frames, `channels` those of latents."""
    s = settings
    return {
        "lock": lock,
        "fps": fps,
        "channels": channels,
        "rows": s.rows,
        "columns": s.columns,
        "prompts": [[entry.start_frame, entry.text] for entry in s.prompts.entries],
        "seeds": [[0, s.seed], *([change.start_frame, change.seed] for change in s.seed_changes)],
        "guidance": [
            [0, _describe_guidance(s.guidance)],
            *([c.start_frame, _describe_guidance(c.guidance)] for c in s.guidance_changes),
        ],
    }


def _describe_guidance(guidance: Guidance) -> str:
    branches = (f"{b.weight:g} {b.prompt} {b.view}" for b in guidance.branches)
    strength = "" if guidance.strength == 1 else f", strength {guidance.strength:g}"
    return f"{' + '.join(branches)}{strength}"


class RecordWriter:
    """Writes the record of one chain, whose lock the caller holds.

    A record of another format version is left as it is.
    """

    def __init__(
        self, journal: Journal, chain: Chain, *, channels: int, fps: float, lock: str
    ) -> None:
        self.chain = chain
        self._path = _path(journal, chain.id)
        self._foreign = is_foreign(self._path)
        before = read(self._path)
        self._known = 0  # chunks in the record
        if before is None:
            facts = rollout_facts(chain.settings, channels=channels, fps=fps, lock=lock)
            self._write([{FORMAT: VERSION, "id": chain.id, **facts}], new=True)
        else:
            same = (chain.key(i) == key for i, key in enumerate(before.keys))
            self._known = next((i for i, is_same in enumerate(same) if not is_same),
                               len(before.keys))  # fmt: skip

    def note(self, index: int) -> None:
        """Add all chunks up to `index`, before the journal gets that chunk."""
        new = range(self._known, index + 1)
        self._write([[i, self.chain.key(i), self.chain.span(i).count] for i in new])
        self._known = max(self._known, index + 1)

    def _write(self, lines: Sequence[object], *, new: bool = False) -> None:
        if self._foreign:
            return
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            if not new and not _ends_whole(self._path):
                text = "\n" + text
            with self._path.open("w" if new else "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise StorageError(
                f"The record {self._path} cannot be written ({error.strerror or error}); free "
                "some space or choose another folder, then run again to continue from here."
            ) from error


def touch(journal: Journal, name: str) -> None:
    """Mark a rollout as used now, if it has a record."""
    path = _path(journal, name)
    try:
        if path.exists():
            os.utime(path)
    except OSError as error:  # a read-only folder keeps no order of use
        logger.debug("%s cannot be touched (%s).", path, error.strerror)


def read(path: Path) -> Record | None:
    """Read a record up to its first torn line; None if there is no usable one.

    A record of another format version is refused with a warning.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        used_s = path.stat().st_mtime
    except OSError:
        return None
    first, *rest = [_parse_line(line) for line in lines] or [None]
    if not isinstance(first, dict) or FORMAT not in first:
        return None
    if first[FORMAT] != VERSION:
        logger.warning(
            "The record %s has format %s and this Longtake reads format %s; use the Longtake that "
            "wrote it, or delete the file.", path, first[FORMAT], VERSION,
        )  # fmt: skip
        return None
    chunks: list[tuple[str, int]] = []
    owned = set[str]()
    for line in rest:
        if isinstance(line, list) and len(line) == 3 and line[0] <= len(chunks):
            del chunks[line[0] :]  # production restarted there
            chunks.append((line[1], line[2]))
            owned.add(line[1])
    keys, frames = tuple(key for key, _ in chunks), tuple(count for _, count in chunks)
    facts = {name: value for name, value in first.items() if name not in (FORMAT, "id")}
    return Record(first.get("id", path.stem), facts, keys, frames, frozenset(owned), used_s)


def is_foreign(path: Path) -> bool:
    """Whether a record has another format version, so that its chunks are unknown here."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = _parse_line(file.readline())
    except OSError:
        return False
    return isinstance(first, dict) and first.get(FORMAT, VERSION) != VERSION


def records(journal: Journal) -> list[Record]:
    """All usable records of a journal, the most recently used first."""
    found = (read(path) for path in journal.folder.glob(f"*{SUFFIX}"))
    return sorted((r for r in found if r), key=lambda record: (-record.used_s, record.id))


def find_record(journal: Journal, name: str) -> Record:
    """The record whose id begins with `name`; BadInput if there is none or more than one."""
    found = [record for record in records(journal) if record.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(
            f"{len(found)} rollouts have an id beginning with {name!r}; give more of it."
        )
    raise BadInput(f"There is no rollout {name!r} in {journal.folder}; `list` shows all of them.")


def _path(journal: Journal, name: str) -> Path:
    return journal.folder / f"{name}{SUFFIX}"


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        return file.read() in (b"", b"\n")


def _parse_line(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # torn
        return None
