"""The file to write: one that an earlier run did not finish, where its pieces fit, or a new one."""

from __future__ import annotations

from dataclasses import replace

from ...stream.video.pieces import KeyOf, PieceLog, begin_log, find_log
from ...stream.video.spec import AnimatedPicture, VideoSpec
from .. import host
from ..frames.source import FrameSource, content_key_by
from .video_formats import AS_FRAMES, frame_rate, name_ending


def choose_file(
    prefix: str, format: str, spec: VideoSpec, frames: FrameSource
) -> tuple[host.OutputFile, PieceLog | None]:
    """Return the file that an earlier run did not finish, or else a new one, and its pieces."""
    file = host.output_file(prefix, name_ending(format), (spec.width, spec.height))
    key_of = piece_keys(frames, spec)
    if key_of(0) is None or not _grows_by_pieces(spec, frames):
        return file, None
    earlier = find_log(file.path, spec, key_of, frames.chunk_count)
    if earlier is not None:
        return replace(file, path=earlier.video), earlier
    return file, begin_log(file.path, spec)


def piece_keys(frames: FrameSource, spec: VideoSpec) -> KeyOf:
    """The keys of a file's pieces: those of the frames.

    Where the file has another rate than the frames, their rate is in the keys too: it decides which
    frames are shown again.
    """
    own_rate = frame_rate(AS_FRAMES, frames.fps)
    if own_rate == spec.rate:
        return frames.content_key

    def key_of(index: int) -> str | None:
        return content_key_by(frames.content_key(index), f"at {own_rate}")

    return key_of


def _grows_by_pieces(spec: VideoSpec, frames: FrameSource) -> bool:
    """Whether every chunk is a piece of the file, so that another run can add to it."""
    no_frame_is_left_out = spec.rate >= frame_rate(AS_FRAMES, frames.fps)
    return no_frame_is_left_out and not isinstance(spec.format, AnimatedPicture)
