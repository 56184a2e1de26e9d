"""Where the pictures of the host's VIDEO are: in its file, or in a copy as other nodes left them.

Newer hosts crop a VIDEO as they trim it: the file stays, and the VIDEO says how to read it. It
tells others of the trim only.
"""

from __future__ import annotations

from typing import Any

from ...errors import StorageError
from ...stream.video.reading.source import VideoSource, coded_size
from .. import host

Trim = tuple[float, float]
"""Start and duration in seconds; a duration of 0 means to the end."""
LOSSLESS = 0  # as CRF of H.264
WHOLE: Trim = (0.0, 0.0)


def locate(video: Any) -> tuple[VideoSource, Trim]:
    """Return what to read of a VIDEO, and the part of that which the VIDEO shows."""
    source = video.get_stream_source()
    if _is_edited(video, source):
        return _copy(video), WHOLE
    return source, getattr(video, "get_active_trim_window", lambda: WHOLE)()


def _is_edited(video: Any, source: VideoSource) -> bool:
    """Whether the VIDEO shows other pictures than its source has."""
    pending = getattr(video, "has_pending_frame_edits", None)
    if pending is not None:
        return bool(pending())
    return hasattr(video, "as_cropped") and video.get_dimensions() != coded_size(source)


def _copy(video: Any) -> str:
    """Let the host write the VIDEO as it shows it, piece by piece, into the temp folder."""
    file = host.output_file("longtake_video", ".mp4", temporary=True)
    try:
        video.save_to(str(file.path), crf=LOSSLESS)
    except OSError as error:
        raise StorageError(
            f"The cropped video cannot be written to {file.path} ({error}); free some space."
        ) from error
    return str(file.path)
