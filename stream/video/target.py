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

from ...errors import LongtakeError, StorageError
from ...temporary_files import remove_leftovers, replacing
from ..lazy.frame_chunk import Pictures
from .faststart import move_index_to_front
from .fragments import MatroskaClusters, MP4Fragments, require_encoder
from .picture_texts import png_texts
from .pieces import Piece
from .sound_track import AAC, FLAC, SoundTrack
from .spec import FRAME_NAME, FragmentedMP4, LosslessMKV, PNGFrames, VideoSpec

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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            self._file = path.open("r+b" if earlier else "wb", buffering=0)
            self._file.truncate(self._whole_bytes)
            self._file.seek(self._whole_bytes)
        except OSError as error:
            raise _cannot_write(path, error) from error
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
        piece = memoryview(self._run_encoder(encode))
        try:
            written = 0
            while written < len(piece):
                written += self._file.write(piece[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # if this fails too, players skip the rest
                self._file.truncate(self._whole_bytes)
            raise _cannot_write(self._path, error) from error
        self._whole_bytes += len(piece)
        return len(piece)

    def _run_encoder(self, encode: Callable[[], bytes]) -> bytes:
        try:
            return encode()
        except av.FFmpegError as error:
            raise LongtakeError(
                f"The encoder failed on {self._path} ({error}); choose another size or container."
            ) from error


class PNGFolder:
    """frame_000000.png and so on; no file is ever visible half-written."""

    def __init__(
        self, folder: Path, metadata: Mapping[str, str], earlier: Sequence[Piece] = ()
    ) -> None:
        self._folder, self._metadata = folder, metadata
        self._frames = earlier[-1].frames if earlier else 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            remove_leftovers(folder.parent, "*/frame_*")  # each run has a folder of its own
            with tempfile.TemporaryFile(dir=folder):
                pass  # the folder is writable
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def append(self, pictures: Pictures) -> int:
        return sum(self._save(Image.fromarray(picture)) for picture in pictures)

    def close(self, *, complete: bool) -> int:
        if not self._frames:
            with contextlib.suppress(OSError):  # it holds an earlier run's pictures
                self._folder.rmdir()
        return 0

    def _save(self, image: Image.Image) -> int:
        path = self._folder / (FRAME_NAME % self._frames)
        try:
            texts = None if self._frames else png_texts(self._metadata)
            with replacing(path) as temporary:
                image.save(temporary, format="PNG", compress_level=1, pnginfo=texts)
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        self._frames += 1
        return path.stat().st_size


def open_target(path: Path, spec: VideoSpec, earlier: Sequence[Piece] = ()) -> VideoTarget:
    """Begin a video in place of an older one, or go on after the `earlier` pieces of this one.

    StorageError or BadInput if that is impossible.
    """
    match spec.codec:
        case FragmentedMP4(crf):
            require_encoder("libx264")
            require_encoder(AAC)
            track = _sound_track(spec, AAC)
            encoder = MP4Fragments(spec.rate, crf, track, spec.metadata)
            finish = partial(move_index_to_front, metadata=spec.metadata)
            return GrowingFile(path, encoder, track, finish, earlier=earlier)
        case LosslessMKV():
            require_encoder("ffv1")
            track = _sound_track(spec, FLAC)
            clusters = MatroskaClusters(spec.rate, track, spec.metadata)
            return GrowingFile(path, clusters, track, earlier=earlier)
        case PNGFrames():
            return PNGFolder(path, spec.metadata, earlier)


def _sound_track(spec: VideoSpec, codec: str) -> SoundTrack | None:
    return None if spec.sound is None else SoundTrack(spec.sound, codec)


def _cannot_write(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The video {path} cannot be written ({error.strerror or error}); "
        f"free some space or choose another folder."
    )
