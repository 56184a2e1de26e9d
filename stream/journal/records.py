"""Records: what each rollout in the journal is, and which of its chunks belong to it.

A record is a text file beside the chunks: a first line that says what the rollout is, then a line
per chunk with its place and address. Lines are only ever added, so a torn last one costs nothing:
the chunk itself is found by its address anyway.
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

SUFFIX = ".rollout"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One rollout in the journal.

    `facts` are those of `described`; `keys` the addresses of its chunks in order, `frames` the
    latent frames of each; `owned` every address it ever had.
    """

    id: str
    facts: dict[str, Any]
    keys: tuple[str, ...]
    frames: tuple[int, ...]
    owned: frozenset[str]
    used_s: float  # when it was last used, by the clock of then

    @property
    def latent_frames(self) -> int:
        """How many were made."""
        return sum(self.frames)

    @property
    def lock(self) -> str:
        """The rollout whose lock is held while this one is made: a live edit's is its source's."""
        return str(self.facts.get("lock", self.id))

    def start(self, chunk: int) -> int:
        """The first latent frame of a chunk."""
        return sum(self.frames[:chunk])


def described(settings: RolloutSettings, *, channels: int, fps: float, lock: str) -> dict[str, Any]:
    """What a record says of a rollout, for people: places are latent frames, `channels` those of
    the latents.
    """
    s = settings
    return {
        "lock": lock,
        "fps": fps,
        "channels": channels,
        "rows": s.rows,
        "columns": s.columns,
        "prompts": [[one.start_frame, one.text] for one in s.prompts.entries],
        "seeds": [[0, s.seed], *([one.start_frame, one.seed] for one in s.seed_changes)],
        "guidance": [
            [0, _guided(s.guidance)],
            *([one.start_frame, _guided(one.guidance)] for one in s.guidance_changes),
        ],
    }


def _guided(guidance: Guidance) -> str:
    branches = (f"{one.weight:g} {one.prompt} {one.view}" for one in guidance.branches)
    strength = "" if guidance.strength == 1 else f", strength {guidance.strength:g}"
    return f"{' + '.join(branches)}{strength}"


class RecordWriter:
    """Keeps the record of one chain; whoever makes its chunks holds their lock. One of a newer
    version is left as it is.
    """

    def __init__(
        self, journal: Journal, chain: Chain, *, channels: int, fps: float, lock: str
    ) -> None:
        self.chain = chain
        self._path = _path(journal, chain.id)
        self._foreign = is_newer(self._path)
        before = read(self._path)
        self._known = 0  # chunks that are noted
        if before is None:
            facts = described(chain.settings, channels=channels, fps=fps, lock=lock)
            self._write([{"longtake": VERSION, "id": chain.id, **facts}], new=True)
        else:
            same = (chain.key(i) == key for i, key in enumerate(before.keys))
            self._known = next((i for i, is_same in enumerate(same) if not is_same),
                               len(before.keys))  # fmt: skip

    def note(self, index: int) -> None:
        """Chunk `index` is about to be in the journal, and all before it are."""
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
                "some space or choose another folder, then run again to go on from here."
            ) from error


def used(journal: Journal, name: str) -> None:
    """Note that a rollout is used now, if there is a record of it."""
    path = _path(journal, name)
    try:
        if path.exists():
            os.utime(path)
    except OSError as error:  # a folder that is only read keeps no order of use
        logger.debug("%s cannot be touched (%s).", path, error.strerror)


def read(path: Path) -> Record | None:
    """A record, as far as it is whole; None where there is none, or of a newer version."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        used_s = path.stat().st_mtime
    except OSError:
        return None
    first, *rest = [_parsed(line) for line in lines] or [None]
    if not isinstance(first, dict) or first.get("longtake", VERSION + 1) > VERSION:
        return None
    chunks: list[tuple[str, int]] = []
    owned = set[str]()
    for line in rest:
        if isinstance(line, list) and len(line) == 3 and line[0] <= len(chunks):
            del chunks[line[0] :]  # made again from there: the end of overlapping chunks
            chunks.append((line[1], line[2]))
            owned.add(line[1])
    keys, frames = tuple(key for key, _ in chunks), tuple(count for _, count in chunks)
    facts = {name: value for name, value in first.items() if name not in ("longtake", "id")}
    return Record(first.get("id", path.stem), facts, keys, frames, frozenset(owned), used_s)


def is_newer(path: Path) -> bool:
    """Whether a record was written by a newer Longtake, which alone knows what it names."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = _parsed(file.readline())
    except OSError:
        return False
    return isinstance(first, dict) and first.get("longtake", 0) > VERSION


def records(journal: Journal) -> list[Record]:
    """All of a journal, the last used first."""
    found = (read(path) for path in journal.folder.glob(f"*{SUFFIX}"))
    return sorted((one for one in found if one), key=lambda one: (-one.used_s, one.id))


def named(journal: Journal, name: str) -> Record:
    """The record whose id begins with `name`; BadInput says what there is instead."""
    found = [one for one in records(journal) if one.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"{name!r} is the beginning of {len(found)} rollouts; give more of its id.")
    raise BadInput(f"there is no rollout {name!r} in {journal.folder}; `list` shows what there is.")


def _path(journal: Journal, name: str) -> Path:
    return journal.folder / f"{name}{SUFFIX}"


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        return file.read() in (b"", b"\n")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # torn
        return None
