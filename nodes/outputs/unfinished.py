"""The file to write: one that an earlier run did not finish, where its pieces fit, or a new one.

Nothing is written where that run has finished the file, and was stopped behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import StorageError
from ...stream.video.pieces import KeyOf, PieceLog, begin_log, find_log, spec_digest
from ...stream.video.spec import AnimatedPicture, PNGFrames, VideoSpec
from ...stream.video.whole_notes import add_note, content_key, noted_videos
from .. import host
from ..frames.source import FrameSource, announce_file, content_key_by
from .video_formats import AS_FRAMES, frame_rate


def choose_file(
    name: Callable[[], host.OutputFile], spec: VideoSpec, frames: FrameSource
) -> tuple[host.OutputFile, PieceLog | None]:
    """Return the file that an earlier run did not finish, else a new one, and its pieces.

    `name` gives the next free number. A new file is there, empty, before its log: who finds a log
    without a video removes it.
    """
    key_of, is_folder = piece_keys(frames, spec), isinstance(spec.format, PNGFrames)
    if key_of(0) is None or not _grows_by_pieces(spec, frames):
        return host.claim_file(name, is_folder=is_folder), None
    file = name()
    earlier = find_log(file.path, spec, key_of, frames.chunk_count)
    if earlier is not None:
        return replace(file, path=earlier.video), earlier
    file = host.claim_file(name, is_folder=is_folder)
    try:
        return file, begin_log(file.path, spec)
    except BaseException:
        host.remove_empty(file)
        raise


def show_whole(
    file: host.OutputFile, spec: VideoSpec, frames: FrameSource, facts: Sequence[Any]
) -> dict[str, Any] | None:
    """Show the file that `file` would repeat: all of it was saved by a run that was stopped.

    `facts` are the node's id and whether it puts files beside the video. Returns what the node
    showed then; None if there is no such file.
    """
    count = frames.chunk_count
    notes = noted_videos(file.path)
    if count is None or not notes:
        return None
    key = _whole_key(spec, facts, map(piece_keys(frames, spec), range(count)))
    for video, note in notes.items():
        if key is not None and note["key"] == key:
            text = f"{video.name} is whole: an earlier run has saved it, and was stopped later."
            host.show_status(facts[0], text)
            role = "frames" if video.is_dir() else "video"
            announce_file(frames, replace(file, path=video), role)
            return note["shown"]
    return None


def note_whole(
    video: Path,
    spec: VideoSpec,
    facts: Sequence[Any],
    keys: Sequence[str | None],
    shown: dict[str, Any],
) -> None:
    """Note for the next run that a file with the chunks of `keys` is whole."""
    try:
        add_note(video, _whole_key(spec, facts, keys), shown)
    except StorageError as error:
        host.warn(facts[0], str(error))


def _whole_key(spec: VideoSpec, facts: Sequence[Any], keys: Iterable[str | None]) -> str | None:
    """What a whole file is known by: pictures, form, and the workflow that it holds."""
    return content_key([*facts, spec_digest(spec), spec.metadata], keys)


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
