"""Notes of videos that are whole, for as long as the run that saves them goes on.

A run may save several videos. Where it ends too early, the next run finds the note of each whole
video and leaves that video alone: else it would make a second one, with every pass of a stage. A
run that ends well takes its notes away, so that the next run saves further files. So only a program
that knows when a run ends asks for notes: `longtake`, and not ComfyUI.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import StorageError
from ...machine.temporary_files import replacing
from .pieces import NUMBERED

FORMAT = 1
VARIABLE = "LONGTAKE_WHOLE_NOTES"  # an environment's, since the core is another process


@contextmanager
def whole_notes() -> Iterator[None]:
    """Ask this process, and those that it starts in the block, for notes."""
    os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def add_note(video: Path, key: str | None, shown: dict[str, Any]) -> None:
    """Note that `video` is whole, if notes are asked for; StorageError if that is impossible.

    `key` tells what is in the video, and `shown` what its node showed.
    """
    if key is None or VARIABLE not in os.environ:
        return
    note = _note_of(video)
    content = {"longtake": FORMAT, "key": key, "size": _size(video), "shown": shown}
    try:
        with replacing(note) as temporary:
            temporary.write_bytes(_signed(json.dumps(content).encode()))
    except OSError as error:
        raise StorageError(
            f"{note} cannot be written ({error.strerror}): if this run is stopped, the next one "
            f"makes {video.name} again."
        ) from error


def noted_videos(video: Path) -> dict[Path, dict[str, Any]]:
    """The whole videos with a note and the name of `video` but for the number; their notes.

    None where notes are not asked for. All files that the node showed are there.
    """
    own = NUMBERED.fullmatch(video.name)
    if own is None or VARIABLE not in os.environ:
        return {}
    contents: dict[Path, dict[str, Any]] = {}
    for note in sorted(video.parent.glob(".*.whole"), reverse=True):
        whole = note.with_name(note.name.removeprefix(".").removesuffix(".whole"))
        parts = NUMBERED.fullmatch(whole.name)
        if parts is not None and parts.groups() == own.groups():
            content = _read(note)
            if content is not None and _is_there(whole, content):
                contents[whole] = content
    return contents


def remove_notes(videos: Iterable[Path]) -> None:
    """Remove the notes of `videos`, whose run has ended well."""
    for video in videos:
        _note_of(video).unlink(missing_ok=True)


def content_key(facts: Iterable[object], keys: Iterable[str | None]) -> str | None:
    """What a video is made of: its `facts` and the keys of its chunks; None where one has none."""
    chunks = list(keys)
    if not chunks or None in chunks:
        return None
    return hashlib.sha256(json.dumps([*facts, *chunks]).encode()).hexdigest()


def _note_of(video: Path) -> Path:
    return video.with_name(f".{video.name}.whole")


def _signed(content: bytes) -> bytes:
    """A note's bytes: the digest of its content, by which a damaged note is known, and that."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _read(note: Path) -> dict[str, Any] | None:
    """What a note holds; None if it is damaged or of another format."""
    try:
        signed = note.read_bytes()
    except OSError:
        return None
    content = signed.partition(b"\n")[2]
    if signed != _signed(content):
        return None
    values: dict[str, Any] = json.loads(content)
    return values if values["longtake"] == FORMAT else None


def _is_there(video: Path, content: dict[str, Any]) -> bool:
    """Whether nobody has taken away or changed the video, or taken away what lies beside it."""
    beside = [video.with_name(entry["filename"]) for entry in content["shown"]["longtake_files"]]
    return all(file.exists() for file in [video, *beside]) and content["size"] == _size(video)


def _size(video: Path) -> int:
    """Bytes of a file, or how many pictures a folder has."""
    return len(list(video.iterdir())) if video.is_dir() else video.stat().st_size
