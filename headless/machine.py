"""The memory of this machine, with the standard library only."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def free_memory_bytes() -> int:
    """Return the main memory that a new allocation can use without swapping."""
    if sys.platform == "win32":
        return int(_windows_memory().available)
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    # macOS reports the total only; half of it is a fair estimate of free memory.
    return total_memory_bytes() // 2


def total_memory_bytes() -> int:
    if sys.platform == "win32":
        return int(_windows_memory().total)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _MemoryStatus(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        *((f"other_{i}", ctypes.c_uint64) for i in range(5)),
    )


def _windows_memory() -> _MemoryStatus:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    kernel.GlobalMemoryStatusEx(ctypes.byref(status))
    return status
