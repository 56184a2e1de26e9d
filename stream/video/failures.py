"""The sentences for a video that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from ...errors import LongtakeError, StorageError


@contextmanager
def explain_failures(path: Path) -> Iterator[None]:
    """Turn FFmpeg's errors and those of the disk into one sentence about the video at `path`."""
    try:
        yield
    except av.FFmpegError as error:
        raise LongtakeError(
            f"The encoder failed on {path} ({error}); choose another size or format."
        ) from error
    except OSError as error:
        raise StorageError(
            f"The video {path} cannot be written ({error.strerror or error}); "
            f"free some space or choose another folder."
        ) from error
