"""How torch uses the processor. OpenMP reads these settings once, when torch is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

from ..machine.processor_settings import SHORT_SPIN, SLEEP, SPINS, WAIT_POLICY

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
CGROUP = Path("/sys/fs/cgroup")


def choose_threads(environment: MutableMapping[str, str], cgroup: Path = CGROUP) -> None:
    """Let waiting threads soon sleep, and use no more threads than there is processor time.

    By default, threads of OpenMP that wait for each other spin. With another program on one of the
    cores they spin against the thread that they wait for. Threads that sleep at once take longer to
    wake than a layer of a small model to compute, so they spin for a moment (GNU's OpenMP alone
    knows that setting). A container's share of the processor is unknown to torch, which starts a
    thread per core. What the user has set stays.
    """
    if WAIT_POLICY not in environment:
        environment[WAIT_POLICY] = SLEEP
        environment.setdefault(SPINS, SHORT_SPIN)
    share = container_cores(cgroup)
    if share is not None and not any(name in environment for name in THREADS):
        environment["OMP_NUM_THREADS"] = str(share)


def container_cores(cgroup: Path = CGROUP) -> int | None:
    """The cores that a container may use, if that is fewer than the machine has (Linux)."""
    quota, period = _quota(cgroup)
    if quota <= 0 or period <= 0:
        return None
    cores = max(1, math.floor(quota / period))
    return cores if cores < (os.cpu_count() or 1) else None


def _quota(cgroup: Path) -> tuple[int, int]:
    """Microseconds of processor time, and of the period in which they may be used; 0 without limit.

    Version 2 of cgroups has both in one file, version 1 in two.
    """
    places = [["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]]
    for names in places:
        files = [cgroup / name for name in names]
        if all(file.is_file() for file in files):
            words = " ".join(file.read_text() for file in files).split()
            return (int(words[0]), int(words[1])) if words[0].isdigit() else (0, 0)
    return 0, 0
