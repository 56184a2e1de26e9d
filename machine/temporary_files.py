"""Files that appear under their names only when they are complete, and what kills leave of them.

Content goes into a temporary file beside the final one, which a rename then replaces. The temporary
name holds the process and the thread that writes it, so a later process can tell what was left.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ENDING = ".longtake.tmp"
LEFTOVER = re.compile(rf".+\.(?P<process>\d+)\.(?P<thread>\d+){re.escape(ENDING)}", re.DOTALL)

PATIENCE_S, PAUSE_S = 2.0, 0.02
IN_USE_S = 3600.0
"""The age from which on Windows a temporary file counts as left."""


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file to `path`, in place of any other.

    Windows refuses while a program has one of the two open: a reader in another thread, a virus
    scanner. Such programs are done soon, so it is asked again for a while.
    """
    end = time.perf_counter() + PATIENCE_S
    while True:
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            if sys.platform != "win32" or time.perf_counter() > end:
                raise
        time.sleep(PAUSE_S)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; its file replaces `path` at the end, and is removed after an error.

    Any OSError is the caller's.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{ENDING}")
    try:
        yield temporary
        put_in_place(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # perhaps it does not exist yet
            temporary.unlink()
        raise


@contextlib.contextmanager
def rewriting(path: Path) -> Iterator[Path]:
    """Yield the path to write a file that a user names; an older file stays until it is whole.

    A link still leads to its file, and the file keeps its permissions. A device or a pipe, such as
    /dev/stdout, is written itself. Any OSError is the caller's.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    remove_leftovers(path.parent, f"{glob.escape(path.name)}.*")
    with replacing(path) as temporary:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that a user names, as `rewriting` does; a text is written in UTF-8."""
    with rewriting(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def temporary_folder(parent: Path) -> Path:
    """Make a folder in `parent` for this process alone, and remove those of killed processes."""
    remove_leftovers(parent)
    ending = f".{os.getpid()}.{threading.main_thread().ident}{ENDING}"
    return Path(tempfile.mkdtemp(ending, dir=parent))


def remove_leftovers(folder: Path, pattern: str = "*") -> None:
    """Remove temporary files and folders in `folder` of killed processes; those in use stay.

    `pattern` names other places below the folder, such as `*/frame_*`.
    """
    for path in folder.glob(f"{pattern}{ENDING}"):
        leftover = LEFTOVER.fullmatch(path.name)
        with contextlib.suppress(OSError):  # another process removes it too, or it is read-only
            if leftover is not None and not _is_in_use(path, leftover):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_in_use(path: Path, leftover: re.Match[str]) -> bool:
    """Whether the thread of this process, or any other process, may still write its file.

    In a container, every start of a program may have the same process id. On Windows one would have
    to open a process to ask for it; the age of the file tells as much.
    """
    process, thread = map(int, leftover.group("process", "thread"))
    if process == os.getpid():
        return thread in sys._current_frames()
    if sys.platform == "win32":
        return time.time() - path.stat().st_mtime < IN_USE_S
    return _is_running(process)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True
