"""The pieces of a growing video, so that a later run adds to it instead of beginning again.

While a video grows, a hidden file beside it has a line for each piece. A run that would begin the
same video looks for such a file, verifies the pieces and goes on after the last sound one. Whatever
a kill or a power cut left behind that is cut off. A complete video has no such file.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av

from ...errors import LongtakeError, StorageError
from ...machine.temporary_files import remove_leftovers, replacing
from ..journal.lock import ProcessLock
from .codecs import Encoding, is_rewritten
from .spec import FRAME_NAME, VideoSpec

FORMAT = 1
READ_BYTES = 1 << 20
NUMBERED = re.compile(r"(?P<name>.+)_\d+_(?P<ending>[^_]*)")

KeyOf = Callable[[int], str | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece: `key` identifies its pictures, `frames` and `size` count up to its end."""

    key: str
    frames: int
    size: int
    checksum: int


class PieceLog:
    """The pieces that a video has. It is locked until the log is closed."""

    def __init__(self, video: Path, digest: str, lock: ProcessLock, pieces: list[Piece]) -> None:
        self.video, self.pieces = video, pieces
        self._digest, self._lock = digest, lock

    @property
    def frames(self) -> int:
        """The number of frames in the pieces."""
        return self.pieces[-1].frames if self.pieces else 0

    @property
    def size(self) -> int:
        """The number of bytes of the pieces."""
        return self.pieces[-1].size if self.pieces else 0

    def begin(self) -> PieceLog:
        """Replace the hidden file by one with the present pieces; return this log.

        If that fails, the video is unlocked: nobody would close the log.
        """
        try:
            self._write()
        except BaseException:
            self._lock.delete()
            raise
        return self

    def _write(self) -> None:
        lines = [{"longtake": FORMAT, "video": self._digest}, *map(asdict, self.pieces)]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        path = _log_path(self.video)
        try:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, key: str, frames: int, size: int) -> None:
        """Note a piece that the video now has."""
        path = _log_path(self.video)
        try:
            checksum = _checksum(self.video, self.size, size)
            piece = Piece(key, frames, size, checksum)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(asdict(piece))}\n")
        except OSError as error:
            raise _unwritable(path, error) from error
        self.pieces.append(piece)

    def close(self, *, complete: bool) -> None:
        """Unlock the video; remove the hidden file if the video is `complete` or empty."""
        if complete or not self.pieces:
            _log_path(self.video).unlink(missing_ok=True)
        self._lock.delete()


def begin_log(video: Path, spec: VideoSpec) -> PieceLog:
    """The log of a new video."""
    video.parent.mkdir(parents=True, exist_ok=True)
    return PieceLog(video, spec_digest(spec), _lock(video), []).begin()


def find_log(video: Path, spec: VideoSpec, key_of: KeyOf, limit: int | None) -> PieceLog | None:
    """The log of an unfinished video that `video` would repeat; None if there is none.

    It has the same name but for the number, all its pieces have the keys that `key_of` gives by
    their index, and fewer than `limit` of them are used: a run always has something to add. Where
    there is none, the log of a video that has nothing yet, because its run was killed.
    """
    digest = spec_digest(spec)
    remove_leftovers(video.parent)
    for path, lock in _unfinished(video):
        pieces = _read_pieces(path, digest)
        if pieces and all(piece.key == key_of(index) for index, piece in enumerate(pieces)):
            sound = _sound_pieces(path, pieces)
            log = PieceLog(path, digest, lock, sound if limit is None else sound[: limit - 1])
            if log.pieces:
                return log.begin()
        lock.delete()
    return _empty_log(video, digest)


def _empty_log(video: Path, digest: str) -> PieceLog | None:
    """The log of an empty video with the name of `video` but for the number."""
    for path, lock in _unfinished(video):
        if not (any(path.iterdir()) if path.is_dir() else path.stat().st_size):
            return PieceLog(path, digest, lock, []).begin()
        lock.delete()
    return None


def spec_digest(spec: VideoSpec) -> str:
    """Equal for videos whose pieces fit together.

    A file that is rewritten at its end gets the metadata of the last run; others keep the prompt of
    the first run, so that it must be the same.
    """
    rewritten = isinstance(spec.format, Encoding) and is_rewritten(spec.format.codec)
    facts = [
        spec.width, spec.height, str(spec.rate), repr(spec.format), av.__version__,
        None if spec.sound is None else spec.sound.digest,
        None if rewritten else spec.metadata.get("prompt"),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _unfinished(video: Path) -> Iterator[tuple[Path, ProcessLock]]:
    """The videos in the folder that have a log and the same name but for the number, and their
    locks; videos that another run writes are left out.
    """
    own = NUMBERED.fullmatch(video.name)
    if own is None or not video.parent.is_dir():
        return
    for path in sorted(video.parent.glob(".*.pieces"), reverse=True):
        other = path.with_name(path.name.removeprefix(".").removesuffix(".pieces"))
        parts = NUMBERED.fullmatch(other.name)
        if parts is not None and parts.groups() == own.groups():
            if not other.exists():
                path.unlink(missing_ok=True)  # its video was deleted or moved
                continue
            try:
                lock = _lock(other)
            except LongtakeError:  # another run writes it
                continue
            yield other, lock


def _read_pieces(video: Path, digest: str) -> list[Piece]:
    """The pieces in the hidden file; none if they are of another video or format."""
    try:
        text = _log_path(video).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    head, *lines = text.split("\n")
    if head != json.dumps({"longtake": FORMAT, "video": digest}):
        return []
    pieces: list[Piece] = []
    for line in lines[:-1]:  # a line without its end was cut off
        piece = _parse(line)
        after = pieces[-1] if pieces else Piece("", 0, 0, 0)
        if piece is None or piece.frames <= after.frames or piece.size <= after.size:
            break
        pieces.append(piece)
    return pieces


def _parse(line: str) -> Piece | None:
    try:
        fields = json.loads(line)
        piece = Piece(**fields)
    except (ValueError, TypeError, RecursionError):
        return None
    numbers = (piece.frames, piece.size, piece.checksum)
    whole = all(type(number) is int for number in numbers)
    return piece if whole and isinstance(piece.key, str) else None


def _sound_pieces(video: Path, pieces: list[Piece]) -> list[Piece]:
    """The pieces up to the first one that the video does not have as it was written."""
    start = frames = 0
    for count, piece in enumerate(pieces):
        try:
            sound = _checksum(video, start, piece.size) == piece.checksum
            if video.is_dir():
                numbers = range(frames, piece.frames)
                sound = sound and all((video / (FRAME_NAME % n)).is_file() for n in numbers)
        except OSError:
            sound = False
        if not sound:
            return pieces[:count]
        start, frames = piece.size, piece.frames
    return pieces


def _checksum(video: Path, start: int, stop: int) -> int:
    """The checksum of a part of a file; 0 for a folder, whose files are never half-written."""
    if video.is_dir():
        return 0
    value = 0
    with video.open("rb") as file:
        file.seek(start)
        while start < stop and (part := file.read(min(READ_BYTES, stop - start))):
            value, start = zlib.crc32(part, value), start + len(part)
    return value if start == stop else -1


def _log_path(video: Path) -> Path:
    return video.with_name(f".{video.name}.pieces")


def _lock(video: Path) -> ProcessLock:
    return ProcessLock(video.with_name(f".{video.name}.lock"), f"The video {video}")


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The file {path} cannot be written ({error.strerror or error}); free some space or choose "
        "another folder."
    )
