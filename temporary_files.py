"""Files that appear under their names only when they are complete, and what kills leave of them.

Content goes into a temporary file beside the final one, which a rename then replaces. The temporary
name holds the process and the thread that writes it, so a later process can tell what was left.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

ENDING = ".longtake.tmp"
LEFTOVER = re.compile(rf".+\.(?P<process>\d+)\.(?P<thread>\d+){re.escape(ENDING)}", re.DOTALL)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; its file replaces `path` at the end, and is removed after an error.

    Any OSError is the caller's.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{ENDING}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # perhaps it does not exist yet
            temporary.unlink()
        raise


def remove_leftovers(folder: Path, pattern: str = "*") -> None:
    """Remove temporary files in `folder` whose process was killed; those in use stay.

    `pattern` names other places below the folder, such as `*/frame_*`.
    """
    for path in folder.glob(f"{pattern}{ENDING}"):
        leftover = LEFTOVER.fullmatch(path.name)
        if leftover is not None and not _is_written(*map(int, leftover.group("process", "thread"))):
            with contextlib.suppress(OSError):  # another process removes it too, or it is read-only
                path.unlink()


def _is_written(process: int, thread: int) -> bool:
    """Whether the thread of this process, or any other process, may still write its file.

    In a container, every start of a program may have the same process id.
    """
    return thread in sys._current_frames() if process == os.getpid() else _is_running(process)


def _is_running(process: int) -> bool:
    if sys.platform == "win32":
        return True  # a check would have to open the process; leftovers are harmless
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True
