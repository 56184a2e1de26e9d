"""What happens to work whose output cannot be written: it goes on, and the exit code says so."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, cast

STANDARD = (0, 1, 2)
LOST = 1  # the exit code of work that is done, and whose output nobody got
LENIENT = "backslashreplace"  # what to do about letters that the output does not have
READER_ENDED = (errno.EPIPE, errno.EINVAL)  # EINVAL: on Windows


class LastingOutput(io.RawIOBase):
    """Write to a file until that fails; drop the rest, and remember the failure.

    A video must not end because a disk that holds the log is full, or `head` has read enough.
    """

    def __init__(self, file: io.RawIOBase | None) -> None:
        self.failure: OSError | None = None
        self._file = file

    def writable(self) -> bool:
        """Return that a text layer may be put on this one."""
        return True

    def write(self, data: Any) -> int | None:
        """Write what the file takes at once, or say that all is written."""
        if self.failure is None:
            try:
                if self._file is None:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                return self._file.write(data)
            except OSError as error:
                self.failure = error
        return len(data)

    def fileno(self) -> int:
        """Return the file's descriptor; rich and click ask for it."""
        if self._file is None:
            raise io.UnsupportedOperation("fileno")
        return self._file.fileno()

    def isatty(self) -> bool:
        """Return whether the file is a terminal."""
        return self._file is not None and self._file.isatty()


def keep_output() -> LastingOutput | None:
    """Let work go on where standard output or standard error is full or closed.

    Return what standard output is now written to; None where it is not a file, as in a test. What
    standard output has no letters for is escaped: in Windows a pipe has those of one country.
    """
    _occupy_closed_descriptors()
    sys.stderr, _ = _lasting(sys.stderr)
    sys.stdout, output = _lasting(sys.stdout)
    return output


def report_loss(output: LastingOutput | None) -> int:
    """Return 0, or the exit code of lost output; tell it unless the reader had read enough."""
    if output is None:
        return 0
    sys.stdout.flush()
    if output.failure is None:
        return 0
    if output.failure.errno not in READER_ENDED:
        sys.stderr.write(
            f"Failed: standard output cannot be written ({output.failure.strerror}), and what "
            "followed is lost; send it elsewhere.\n"
        )
    return LOST


def _lasting(stream: Any) -> tuple[Any, LastingOutput | None]:
    """Return a stream that does not fail, and its lowest layer."""
    if stream is None:  # Python was started with this descriptor closed
        raw = LastingOutput(None)
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", LENIENT, write_through=True), raw
    if not isinstance(stream, io.TextIOWrapper):
        return stream, None
    stream.flush()
    raw = LastingOutput(cast(io.RawIOBase, getattr(stream.buffer, "raw", stream.buffer)))
    lasting = io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, LENIENT,
        line_buffering=stream.line_buffering, write_through=stream.write_through,
    )  # fmt: skip
    return lasting, raw


def _occupy_closed_descriptors() -> None:
    """Give each closed standard descriptor to the null device, in child processes too.

    The next file that is opened would get it, and what a library prints would be in a video.
    """
    for descriptor in STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest free one, which is this
            os.set_inheritable(opened, True)
