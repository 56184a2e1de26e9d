"""Records: what each rollout in the journal is, and which chunks belong to it.

A record is a text file beside the chunks. Its first line describes the rollout. Each further line
holds the number, address and length of a chunk. Lines are only appended and each has a seal: a torn
last line does no harm, and a damaged record is noticed and rebuilt when its shot runs again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import BadInput, StorageError
from ...samplers.guidance import Guidance
from ...samplers.settings import RolloutSettings
from .chain import Chain
from .files import paths_in, set_aside
from .journal import Journal, live_key
from .record_lines import FORMAT, Damaged, OtherFormat, Torn, append_lines, parse_record, read_bytes

logger = logging.getLogger("longtake")

SUFFIX = ".rollout"
VERSION = 2
ROOT = "live_root"  # the address before chunk 0, in the facts of a rollout with live input


@dataclass(frozen=True, slots=True)
class Record:
    """One rollout in the journal.

    `facts` come from `rollout_facts`. `keys` are the addresses of its chunks in order, `frames` the
    latent frames of each. `owned` holds every address that the rollout ever had, `inputs` those of
    them that hold what came in live.
    """

    id: str
    facts: dict[str, Any]
    keys: tuple[str, ...]
    frames: tuple[int, ...]
    owned: frozenset[str]
    used_s: float  # the time of its last use, since the epoch
    inputs: frozenset[str] = frozenset()

    @property
    def latent_frames(self) -> int:
        """The number of finished latent frames."""
        return sum(self.frames)

    @property
    def lock(self) -> str:
        """The rollout whose lock is held during production: for a live edit, its source."""
        return str(self.facts.get("lock", self.id))

    @property
    def replaced(self) -> int:
        """Chunks that other ones replaced, such as those that keys threw away unseen."""
        return len(self.owned - self.inputs - {*self.keys})

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
    if guidance == Guidance():
        return "none"
    strength = "" if guidance.strength == 1 else f", strength {guidance.strength:g}"
    nag = guidance.normalized_attention
    parts = *map(str, guidance.branches), *([] if nag is None else [str(nag)])
    return f"{'; '.join(parts)}{strength}"


class RecordWriter:
    """Writes the record of one chain, whose lock the caller holds.

    A damaged record is set aside and begun again. One of another format version, or one that cannot
    be read, is left as it is.
    """

    def __init__(
        self, journal: Journal, chain: Chain, *, channels: int, fps: float, lock: str
    ) -> None:
        self.chain = chain
        self._path, self._files = _path(journal, chain.id), journal.files
        facts = rollout_facts(chain.settings, channels=channels, fps=fps, lock=lock)
        facts |= {ROOT: chain.key(-1)} if chain.live else {}
        self._head = {FORMAT: VERSION, "id": chain.id, **facts}
        self._foreign = False
        before = self._read_before()
        self._known = 0 if before is None else _shared_chunks(chain, before.keys)  # chunks in it
        if before is None:
            self._write([self._head])

    def note(self, index: int) -> None:
        """Add all chunks up to `index`, before the journal gets that chunk."""
        if not os.path.lexists(self._path):  # somebody removed it while the shot was made
            self._write([self._head])
            self._known = 0
        new = range(self._known, index + 1)
        self._write([[i, self.chain.key(i), self.chain.span(i).count] for i in new])
        self._known = max(self._known, index + 1)

    def follow(self, chain: Chain, index: int) -> None:
        """Go on with another chain from chunk `index` on; the record owns what it replaces."""
        self.chain, self._known = chain, min(self._known, index)

    def _read_before(self) -> Record | None:
        try:
            return _load(self._path)
        except (FileNotFoundError, Torn):
            return None
        except Damaged as error:
            set_aside(self._path, error)
            self._foreign = self._path.exists()  # it could not be renamed
        except (OtherFormat, OSError):
            self._foreign = True
        return None

    def _write(self, lines: Sequence[object]) -> None:
        if self._foreign or not lines:
            return
        try:
            append_lines(self._path, lines)
        except FileNotFoundError as error:  # the lock made the folder, so somebody removed it
            raise StorageError(
                f"{self._path.parent} was removed while the shot was made; run again to make it."
            ) from error
        except OSError as error:
            raise StorageError(
                f"The record {self._path} cannot be written ({error.strerror or error}); free "
                "some space or choose another folder, then run again to continue from here."
            ) from error
        self._files.note_growth(self._path.name)


def _shared_chunks(chain: Chain, keys: Sequence[str]) -> int:
    """How many of the first `keys` are the chain's; a record may be of a longer shot."""
    for index, key in enumerate(keys):
        try:
            if chain.key(index) != key:
                return index
        except StopIteration:  # the chain ends here
            return index
    return len(keys)


def is_lost(journal: Journal, name: str) -> bool:
    """Whether a rollout has no record, or a damaged one, which may be written again."""
    try:
        _load(_path(journal, name))
    except (FileNotFoundError, Torn, Damaged):
        return True
    except (OtherFormat, OSError):
        return False
    return False


def touch(journal: Journal, name: str) -> None:
    """Mark a rollout as used now, if it has a record."""
    path = _path(journal, name)
    try:
        if path.exists():
            os.utime(path)
    except OSError as error:  # a read-only folder keeps no order of use
        logger.debug("%s cannot be touched (%s).", path, error.strerror)


def read(path: Path) -> Record | None:
    """Read a record up to its last whole line; None, with a warning, if it cannot be used."""
    try:
        return _load(path)
    except (FileNotFoundError, Torn):
        return None
    except (OtherFormat, Damaged, OSError) as error:
        _warn(path, error)
        return None


def _warn(path: Path, error: OtherFormat | Damaged | OSError) -> None:
    if isinstance(error, OtherFormat):
        logger.warning(
            "The record %s has format %s and this Longtake reads format %s; use the Longtake that "
            "wrote it, or delete the file.", path, error.version, VERSION,
        )  # fmt: skip
    elif isinstance(error, Damaged):
        logger.warning(
            "The record %s is damaged (%s); run its shot again to rebuild it, or delete the file.",
            path, error,
        )  # fmt: skip
    else:
        logger.warning(
            "The record %s cannot be opened (%s); check the disk and its permissions.",
            path, error.strerror,
        )  # fmt: skip


def _load(path: Path) -> Record:
    """A record; Damaged, OtherFormat or OSError if it cannot be used."""
    return _record(path.name.removesuffix(SUFFIX), read_bytes(path), path.stat().st_mtime)


def _record(name: str, content: bytes, used_s: float) -> Record:
    facts, lines = parse_record(content, name, VERSION)
    chunks: list[tuple[str, int]] = []
    owned = set[str]()
    for index, key, count in lines:
        del chunks[index:]  # production restarted there
        chunks.append((key, count))
        owned.add(key)
    keys, frames = tuple(key for key, _ in chunks), tuple(count for _, count in chunks)
    root = facts.get(ROOT)
    inputs = frozenset(live_key(key) for key in (root, *owned)) if root else frozenset[str]()
    return Record(name, facts, keys, frames, inputs | owned, used_s, inputs)


def records(journal: Journal) -> list[Record]:
    """All usable records of a journal, the most recently used first."""
    return read_records(journal)[0]


def read_records(journal: Journal) -> tuple[list[Record], int]:
    """All usable records, the most recently used first, and the number of those that are not.

    Whose chunks those name is unknown.
    """
    readable, unusable = dict[str, Record](), 0
    for path, load in _sources(journal):
        try:
            record = load()
        except (FileNotFoundError, Torn):
            continue
        except (OtherFormat, Damaged, OSError) as error:
            _warn(path, error)
            unusable += 1
        else:
            known = readable.get(record.id)
            readable[record.id] = record if known is None else _merge(known, record)
    newest_first = sorted(readable.values(), key=lambda record: (-record.used_s, record.id))
    return newest_first, unusable


def _sources(journal: Journal) -> Iterator[tuple[Path, Callable[[], Record]]]:
    """The records of the folder, then those of other writers in the store."""
    for path in paths_in(journal.folder, SUFFIX):
        yield path, partial(_load, path)
    for name, (content, used_s) in journal.files.other_records().items():
        yield Path(name), partial(_record, name.partition(".")[0], content, used_s)


def _merge(first: Record, second: Record) -> Record:
    """One rollout as two writers know it: as far as either got, and all that either ever had."""
    longest = max(first, second, key=lambda record: (len(record.keys), record.used_s))
    owned, used_s = first.owned | second.owned, max(first.used_s, second.used_s)
    return replace(longest, owned=owned, used_s=used_s, inputs=first.inputs | second.inputs)


def find_record(journal: Journal, name: str) -> Record:
    """The record whose id begins with `name`; BadInput if there is none or more than one."""
    matches = [record for record in records(journal) if record.id.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise BadInput(
            f"{len(matches)} rollouts have an id beginning with {name!r}; give more of it."
        )
    raise BadInput(f"There is no rollout {name!r} in {journal.folder}; `list` shows all of them.")


def _path(journal: Journal, name: str) -> Path:
    return journal.folder / f"{name}{SUFFIX}"
