"""Files as Windows treats them, on Linux.

Windows neither deletes, renames nor replaces a file that somebody has open or mapped, renames no
folder that holds such a file, opens no folder, and syncs no file that is opened to be read. Text
files have two characters at a line's end, and another encoding. `pytest -p
longtake.tests.support.as_windows FOLDER` runs any tests so.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FILES = ("longtake.machine.temporary_files", "longtake.stream.journal.", "longtake.stream.video.")
"""The modules that ask which system it is for the sake of files; others would call Windows."""

_io_open, _open, _fsync = io.open, os.open, os.fsync
_unlink, _rename, _replace = os.unlink, os.rename, os.replace


class WindowsSys:
    """The module `sys` as our code sees it there."""

    platform = "win32"

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def files_in_use() -> set[str]:
    """The files that this process has open or mapped."""
    names = {line[line.find("/") :] for line in Path("/proc/self/maps").read_text().splitlines()}
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            names.add(os.readlink(descriptor))
        except FileNotFoundError:  # that of the listing itself
            continue
    return names


def _refuse_if_used(path: Any, folder: int | None = None) -> None:
    where = "" if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    full = os.path.realpath(os.path.join(where, os.fspath(path)))
    used = files_in_use()
    inside = [name for name in used if name.startswith(f"{full}/") and os.path.isfile(name)]
    if inside or (full in used and not os.path.isdir(full)):
        raise PermissionError(errno.EACCES, "used by another process", str(path))


def unlink(path: Any, *, dir_fd: int | None = None) -> None:
    _refuse_if_used(path, dir_fd)
    _unlink(path, dir_fd=dir_fd)


def rename(source: Any, target: Any) -> None:
    _refuse_if_used(source)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "the file exists", str(target))
    _rename(source, target)


def replace(source: Any, target: Any) -> None:
    for path in (source, target):
        _refuse_if_used(path)
    if os.path.isdir(target):
        raise PermissionError(errno.EACCES, "access is denied", str(target))
    _replace(source, target)


def open_descriptor(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    nameless = flags & os.O_TMPFILE == os.O_TMPFILE
    if dir_fd is None and os.path.isdir(path) and not nameless:
        raise PermissionError(errno.EACCES, "a folder is not opened", str(path))
    return _open(path, flags, mode, dir_fd=dir_fd)


def fsync(file: Any) -> None:
    descriptor = file if isinstance(file, int) else file.fileno()
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "the file was opened to be read")
    _fsync(descriptor)


def open_file(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
    """`open`, which our code gets as text of Western Europe with two characters at a line's end."""
    names = ("buffering", "encoding", "errors", "newline", "closefd", "opener")
    options |= dict(zip(names, args, strict=False))
    if "b" not in mode and _is_ours(sys._getframe(1)):
        if options.get("encoding") in (None, "locale"):
            options["encoding"] = "cp1252"
        if options.get("newline") is None and set(mode) & set("wax"):
            options["newline"] = "\r\n"
    return _io_open(file, mode, **options)


def _is_ours(frame: Any) -> bool:
    while frame is not None and frame.f_code.co_filename.endswith("pathlib.py"):
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__", "").startswith("longtake.")


def become_windows(patch: pytest.MonkeyPatch) -> None:
    """Have all files so until `patch` is undone."""
    mine = {"unlink": unlink, "remove": unlink, "rename": rename, "replace": replace}
    for name, function in {**mine, "open": open_descriptor, "fsync": fsync}.items():
        patch.setattr(os, name, function)
    for module in (io, builtins):
        patch.setattr(module, "open", open_file)
    patch.setattr(shutil, "_use_fd_functions", False)  # removes a folder without opening it
    for name, module in [*sys.modules.items()]:
        if name.startswith(FILES) and getattr(module, "sys", None) is sys:
            patch.setattr(module, "sys", WindowsSys())


@pytest.fixture(autouse=True)
def _on_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    become_windows(monkeypatch)
    yield
