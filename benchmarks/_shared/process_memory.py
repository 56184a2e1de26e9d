"""Peak memory of a case, each in a fresh process, because allocators return little memory.

The figure is the highest resident size during set-up and run, minus the size of the process after
importing torch. On Linux it is VmHWM, because `ru_maxrss` starts there at the parent's peak.
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
    """Return the peak of case `build(name, count)`; None if the system does not report memory.

    `build` must be a module-level function.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measure, build, name, count).result()


def _measure(build: Callable[[str, int], Prepare], name: str, count: int) -> int | None:
    before = process_peak()
    build(name, count)()()
    after = process_peak()
    return None if before is None or after is None else after - before


def resident_bytes() -> int:
    """Return this process's resident bytes, or its peak if the system reports only that."""
    return _status("VmRSS") or peak_rss_bytes() or 0


def process_peak() -> int | None:
    """Return this process's highest resident bytes so far; None if the system does not tell."""
    return _status("VmHWM") or peak_rss_bytes()


def _status(name: str) -> int | None:
    """Return a field of Linux's status file of this process, in bytes."""
    if not STATUS.exists():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(fields[name].split()[0]) * 1024
