"""The lines of a record: JSON and a seal, by which a changed line is noticed.

The first line holds the facts of a rollout, each further one the number, address and latent frames
of a chunk. A line without its newline at the end was torn by a kill and does not count: its chunk
was not written yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .lock import NO_FOLLOW

FORMAT = "longtake"
FIRST_SEALED = 2  # the format version that introduced seals
SEAL_LENGTH = 16
IDS, ADDRESSES = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{64}")
MAX_CHUNK_FRAMES, MAX_FRAMES, MAX_FPS = 100_000, 10**9, 10_000


class Damaged(ValueError):
    """The content of a record is not what was written."""


class Torn(ValueError):
    """A record without a whole line, because its writer was killed: it names nothing yet."""


class OtherFormat(ValueError):
    """A record of another format version; `version` is that one."""

    def __init__(self, version: object) -> None:
        super().__init__(f"its format is {version}")
        self.version = version


def sealed_line(value: object) -> str:
    """One line of a record."""
    text = json.dumps(value)
    return f"{text} {_seal(text)}\n"


def read_bytes(path: Path) -> bytes:
    """The content of a file, which must not be a symbolic link."""
    with open(path, "rb", opener=_open_itself) as file:
        return file.read()


def append_lines(path: Path, values: Iterable[object]) -> None:
    """Add lines to a file, which is made if it does not exist, after removing a torn last line."""
    with open(path, "a+b", opener=_open_itself) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        if file.read() not in (b"", b"\n"):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write("".join(map(sealed_line, values)).encode())


def _open_itself(path: str, flags: int) -> int:
    return os.open(path, flags | NO_FOLLOW, 0o644)


def parse_record(content: bytes, name: str, version: int) -> tuple[dict[str, Any], list[Any]]:
    """Facts and chunk lines of record `name`; Damaged, OtherFormat or Torn if there are none."""
    *lines, torn = content.split(b"\n")
    if _is_sealed(torn[:-1]):
        raise Damaged("a line has lost its end")
    if not lines:
        raise Torn("it has no whole line")
    _check_version(lines[0], version)
    facts, *chunks = [_unseal(line) for line in lines]
    if not isinstance(facts, dict) or facts.get("id") != name or not IDS.fullmatch(name):
        raise Damaged("its id is not its file's name")
    if facts.get(FORMAT) != version:
        raise Damaged(f"its format is {facts.get(FORMAT)!r}")
    _check_facts(facts)
    _check_chunks(chunks)
    return {key: value for key, value in facts.items() if key not in (FORMAT, "id")}, chunks


def _check_version(line: bytes, version: int) -> None:
    """OtherFormat if the first line is from another Longtake, sealed or before there were seals."""
    try:
        first = json.loads(line[: -SEAL_LENGTH - 1] if _is_sealed(line) else line)
    except (ValueError, RecursionError):
        return
    written = first.get(FORMAT) if isinstance(first, dict) else None
    if type(written) is not int or written == version:
        return
    if _is_sealed(line) or written < FIRST_SEALED:
        raise OtherFormat(written)


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:SEAL_LENGTH]


def _is_sealed(line: bytes) -> bool:
    text, _, seal = line.rpartition(b" ")
    return hashlib.sha256(text).hexdigest()[:SEAL_LENGTH].encode() == seal


def _unseal(line: bytes) -> Any:
    if not _is_sealed(line):
        raise Damaged("a line is not as it was written")
    try:
        return json.loads(line[: -SEAL_LENGTH - 1])
    except (ValueError, RecursionError) as error:
        raise Damaged("a line is not JSON") from error


def _check_facts(facts: Mapping[str, Any]) -> None:
    fps: Any = facts.get("fps")
    lock: Any = facts.get("lock")
    if type(fps) not in (int, float) or not 0 < fps <= MAX_FPS:
        raise Damaged(f"its fps is {fps!r}")
    if not isinstance(lock, str) or not IDS.fullmatch(lock):
        raise Damaged(f"its lock is {lock!r}")
    for name in ("rows", "columns", "channels"):
        value = facts.get(name, 1 if name == "channels" else None)  # missing in older records
        if type(value) is not int or value < 1:
            raise Damaged(f"its {name} are {value!r}")
    root: Any = facts.get("live_root")
    if root is not None and not (isinstance(root, str) and ADDRESSES.fullmatch(root)):
        raise Damaged(f"its live_root is {root!r}")
    for name, kind in (("prompts", str), ("seeds", int), ("guidance", str)):
        if not _is_timeline(facts.get(name), kind):
            raise Damaged(f"its {name} are not a timeline")


def _is_timeline(value: object, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(
        isinstance(entry, list) and [type(part) for part in entry] == [int, kind]
        and 0 <= entry[0] <= MAX_FRAMES
        for entry in value
    )  # fmt: skip


def _check_chunks(lines: Iterable[Any]) -> None:
    """Damaged if a line does not name a chunk that follows those before it."""
    known = 0
    for line in lines:
        if not isinstance(line, list) or [type(part) for part in line] != [int, str, int]:
            raise Damaged("a line names no chunk")
        index, address, frames = line
        in_order = 0 <= index <= known and 1 <= frames <= MAX_CHUNK_FRAMES
        if not in_order or not ADDRESSES.fullmatch(address):
            raise Damaged("a line names no chunk that can follow")
        known = index + 1
