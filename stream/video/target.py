"""Where a video is written: one growing file, or a folder of numbered pictures."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import av
from PIL import Image

from ...errors import StorageError
from ...machine.temporary_files import remove_leftovers, replacing
from ..lazy.frame_chunk import Pictures
from .animated import AnimatedFile
from .codecs import Encoding, is_rewritten
from .failures import explain_failures
from .faststart import move_index_to_front
from .fragments import MatroskaClusters, MP4Fragments
from .picture_stream import require_encoder
from .picture_texts import png_texts
from .pieces import Piece
from .sound.track import SoundTrack
from .spec import FRAME_NAME, AnimatedPicture, PNGFrames, VideoSpec

logger = logging.getLogger("longtake")


class VideoTarget(Protocol):
    """Receives the pictures of a video; both methods return by how many bytes it grew."""

    def append(self, pictures: Pictures) -> int:
        """Write the pictures at the end."""

    def close(self, *, complete: bool) -> int:
        """Close the video, or remove it if it is empty; nothing follows a `complete` one."""


class PieceEncoder(Protocol):
    """Turns pictures into the next piece of a file."""

    def encode(self, pictures: Pictures) -> bytes:
        """The bytes that add the pictures to the file."""

    def skip(self, ends: Sequence[int]) -> None:
        """Go on after pieces that the file has; `ends` are their frames, counted from the start."""

    def finish(self) -> bytes:
        """The bytes that complete the file."""


Finish = Callable[[Path], None]


class GrowingFile:
    """A file that is playable after every piece: a partly written piece is cut off again.

    `finish` gives a complete file its final form. If that fails, the file stays as it grew.
    """

    def __init__(
        self,
        path: Path,
        encoder: PieceEncoder,
        track: SoundTrack | None,
        finish: Finish | None = None,
        *,
        earlier: Sequence[Piece] = (),
    ) -> None:
        self._path, self._encoder, self._track = path, encoder, track
        self._finish = finish
        self._whole_bytes = earlier[-1].size if earlier else 0
        with explain_failures(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            self._file = path.open("r+b" if earlier else "wb", buffering=0)
            self._file.truncate(self._whole_bytes)
            self._file.seek(self._whole_bytes)
        if earlier:
            encoder.skip([piece.frames for piece in earlier])

    def append(self, pictures: Pictures) -> int:
        return self._write(lambda: self._encoder.encode(pictures))

    def close(self, *, complete: bool) -> int:
        before = self._whole_bytes
        try:
            self._write(self._encoder.finish)
        finally:
            self._file.close()
            if self._track is not None:
                self._track.close()
            if not self._whole_bytes:
                self._path.unlink(missing_ok=True)
        if complete and self._whole_bytes and self._finish is not None:
            self._apply(self._finish)
        return self._whole_bytes - before

    def _apply(self, finish: Finish) -> None:
        try:
            finish(self._path)
            self._whole_bytes = self._path.stat().st_size
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or error
            logger.warning(
                "The video %s is complete and plays, but its index could not be moved to the "
                "front (%s); free some space, and save it again for programs that need that.",
                self._path, reason,
            )  # fmt: skip

    def _write(self, encode: Callable[[], bytes]) -> int:
        with explain_failures(self._path):
            piece = memoryview(encode())
            if (piece or self._whole_bytes) and not self._path.exists():
                raise StorageError(
                    f"The video {self._path} was deleted or moved while it was written; run again "
                    "and leave it there until it is complete."
                )
            try:
                written = 0
                while written < len(piece):
                    written += self._file.write(piece[written:])
            except OSError:
                with contextlib.suppress(OSError):  # if this fails too, players skip the rest
                    self._file.truncate(self._whole_bytes)
                raise
        self._whole_bytes += len(piece)
        return len(piece)


class PNGFolder:
    """frame_000000.png and so on; no file is ever visible half-written."""

    def __init__(
        self, folder: Path, metadata: Mapping[str, str], earlier: Sequence[Piece] = ()
    ) -> None:
        self._folder, self._metadata = folder, metadata
        self._frames = earlier[-1].frames if earlier else 0
        with explain_failures(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            remove_leftovers(folder.parent, "*/frame_*")  # each run has a folder of its own
            with tempfile.TemporaryFile(dir=folder):
                pass  # the folder is writable

    def append(self, pictures: Pictures) -> int:
        return sum(self._save(Image.fromarray(picture)) for picture in pictures)

    def close(self, *, complete: bool) -> int:
        if not self._frames:
            with contextlib.suppress(OSError):  # it holds an earlier run's pictures
                self._folder.rmdir()
        return 0

    def _save(self, image: Image.Image) -> int:
        path = self._folder / (FRAME_NAME % self._frames)
        texts = None if self._frames else png_texts(self._metadata)
        with explain_failures(self._folder), replacing(path) as temporary:
            image.save(temporary, format="PNG", compress_level=1, pnginfo=texts)
        self._frames += 1
        return path.stat().st_size


def open_target(path: Path, spec: VideoSpec, earlier: Sequence[Piece] = ()) -> VideoTarget:
    """Begin a video in place of an older one, or go on after the `earlier` pieces of this one.

    StorageError or BadInput if that is impossible.
    """
    match spec.format:
        case PNGFrames():
            return PNGFolder(path, spec.metadata, earlier)
        case AnimatedPicture() as format:
            return AnimatedFile(path, spec, format)
        case Encoding() as encoding:
            return _growing_file(path, spec, encoding, earlier)


def _growing_file(
    path: Path, spec: VideoSpec, encoding: Encoding, earlier: Sequence[Piece]
) -> GrowingFile:
    codec = encoding.codec
    require_encoder(codec.encoder)
    require_encoder(codec.sound)
    track = None if spec.sound is None else SoundTrack(spec.sound, codec.sound)
    pieces = MP4Fragments if codec.container in ("mp4", "mov") else MatroskaClusters
    encoder = pieces(spec.rate, encoding, track, spec.metadata)
    if not is_rewritten(codec):
        return GrowingFile(path, encoder, track, earlier=earlier)
    finish = partial(move_index_to_front, container=codec.container, metadata=spec.metadata)
    return GrowingFile(path, encoder, track, finish, earlier=earlier)
