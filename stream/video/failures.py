"""The sentences for a video that cannot be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from ...errors import LongtakeError, StorageError

DISK_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOENT,
}  # fmt: skip
"""What the disk says where FFmpeg writes the file itself."""


@contextmanager
def explain_failures(path: Path) -> Iterator[None]:
    """Turn FFmpeg's errors and those of the disk into one sentence about the video at `path`."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, av.FFmpegError) and error.errno not in DISK_ERRORS:
            raise LongtakeError(
                f"The encoder failed on {path} ({error}); choose another size or format."
            ) from error
        raise StorageError(
            f"The video {path} cannot be written ({error.strerror or error}); "
            f"free some space or choose another folder."
        ) from error
