"""Names of a row's files that a driver on any system can write."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ...characters import cut_to_bytes, is_cut_on_windows, is_device
from ..batch.record import SavedFile

MAX_PATH, MAX_PART = 400, 200  # characters; file systems allow more, below any folder of a user
MAX_STEM, MAX_ENDING = 150, 20
MAX_PART_BYTES, MAX_STEM_BYTES = 255, 160  # Windows counts letters, and Linux bytes of UTF-8
UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|]")


def is_safe(path: str) -> bool:
    """Return whether a path names a file below its folder, on every system."""
    return len(path) <= MAX_PATH and all(map(_is_safe_part, path.split("/")))


def rename_files(folder: Path, files: Iterable[SavedFile]) -> tuple[SavedFile, ...]:
    """Give each file below `folder` a name that is safe and that no other file has."""
    files = tuple(files)
    names = {file.path.lower() for file in files if is_safe(file.path)}
    return tuple(SavedFile(file.role, _rename(folder, file.path, names)) for file in files)


def _rename(folder: Path, path: str, names: set[str]) -> str:
    """Return the safe path of a file, which is there; `names` are in use, in lower case."""
    if is_safe(path):
        return path
    safe = PurePosixPath(_make_safe(path))
    target, number = safe, 1
    while str(target).lower() in names:
        number += 1
        target = safe.with_stem(f"{safe.stem}-{number}")
    names.add(str(target).lower())
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).rename(folder / target)
    return str(target)


def _make_safe(path: str) -> str:
    parts = [_make_part_safe(part) for part in path.split("/")]
    whole = "/".join(parts)
    return whole if len(whole) <= MAX_PATH else parts[-1]


def _make_part_safe(part: str) -> str:
    name = UNSAFE.sub("_", part).strip(". ") or "file"
    ending = PurePosixPath(name).suffix[:MAX_ENDING].rstrip()
    stem = cut_to_bytes(PurePosixPath(name).stem[:MAX_STEM], MAX_STEM_BYTES).rstrip(". ")
    return f"_{stem}{ending}" if is_device(name) else f"{stem}{ending}"


def _is_safe_part(part: str) -> bool:
    return (
        0 < len(part) <= MAX_PART
        and len(part.encode(errors="replace")) <= MAX_PART_BYTES
        and not UNSAFE.search(part)
        and not is_device(part)
        and not is_cut_on_windows(part)
        and not part.startswith((".", " "))
    )
