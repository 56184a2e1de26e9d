"""Peak memory of a case, each in a fresh process: allocators give little back.

The figure is the highest resident size while the case was set up and run, above that of the process
with torch imported. On Linux it is VmHWM, because `ru_maxrss` there starts at the parent's peak.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ...stream.metrics import peak_rss_bytes
from .paired import Prepare

STATUS = Path("/proc/self/status")


def peak_bytes(build: Callable[[str, int], Prepare], name: str, count: int) -> int | None:
    """The peak of case `build(name, count)`, a module-level function; None where nothing tells."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measure, build, name, count).result()


def _measure(build: Callable[[str, int], Prepare], name: str, count: int) -> int | None:
    before = _peak()
    build(name, count)()()
    after = _peak()
    return None if before is None or after is None else after - before


def resident_bytes() -> int:
    """What this process holds now; its peak where nothing tells."""
    return _status("VmRSS") or peak_rss_bytes() or 0


def _peak() -> int | None:
    return _status("VmHWM") or peak_rss_bytes()


def _status(name: str) -> int | None:
    """A line of Linux' own account of this process, in bytes."""
    if not STATUS.exists():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(fields[name].split()[0]) * 1024
