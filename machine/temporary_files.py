"""Files that appear under their names only when they are complete, and what kills leave of them.

Content goes into a temporary file beside the final one, which a rename then replaces. The temporary
name holds the machine, process and thread that writes it, so a later process can tell what was
left. Machines and containers may share a folder; the processes of others cannot be asked for.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ENDING = ".longtake.tmp"
LEFTOVER = re.compile(
    rf".+\.(?P<place>[0-9a-f]{{8}})\.(?P<process>\d+)\.(?P<thread>\d+){re.escape(ENDING)}",
    re.DOTALL,
)

PATIENCE_S, PAUSE_S = 2.0, 0.02
IN_USE_S = 3600.0
"""The age from which a temporary file counts as left, on Windows and by another machine."""


def temporary_name(name: str, process: int | None = None, thread: int | None = None) -> str:
    """What a file is called while a thread, by default this one, writes it."""
    writer = os.getpid() if process is None else process
    return f"{name}.{_place()}.{writer}.{thread or threading.get_ident()}{ENDING}"


@functools.cache
def _place() -> str:
    """Where process ids have a meaning: this start of this machine, in this container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # not Linux
        parts.append(os.readlink("/proc/self/ns/pid"))
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


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
    temporary = path.with_name(temporary_name(path.name))
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
    ending = temporary_name("", thread=threading.main_thread().ident)
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
    to open a process to ask for it, and another machine's cannot be asked for; the age of the file
    tells as much.
    """
    process, thread = map(int, leftover.group("process", "thread"))
    is_here = leftover["place"] == _place()
    if is_here and process == os.getpid():
        return thread in sys._current_frames()
    if sys.platform == "win32" or not is_here:
        newest = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
        return time.time() - newest < IN_USE_S
    return _is_running(process)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True
