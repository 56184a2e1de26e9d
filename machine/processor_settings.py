"""Settings of the environment under which shots on a processor run best.

`longtake` makes them for itself. ComfyUI has loaded torch before this pack, so its owner has to.
"""

from __future__ import annotations

from collections.abc import Mapping

WAIT_POLICY, SPINS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
SLEEP = "PASSIVE"
SHORT_SPIN = "2000"  # turns of a loop, some 30 microseconds: longer than from one layer to the next

MAPPED_BYTES = 32 * 2**20
"""Larger tensors, such as weights, go back to the system when freed; the most for every glibc."""
KEPT_BYTES = 256 * 2**20
"""Free memory at the end of the heap that stays with the process."""

MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(MAPPED_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),
}


def threads_sleep(environment: Mapping[str, str]) -> bool:
    """Whether threads that wait for others let go of their cores."""
    return environment.get(WAIT_POLICY, "").upper() == SLEEP


def advised(environment: Mapping[str, str], *, glibc: bool) -> str:
    """The settings that an environment lacks, as one writes them before a command.

    Those of memory need glibc. What the owner chose stays, but for threads that do not sleep.
    """
    chosen = {name for name in environment if name != WAIT_POLICY or threads_sleep(environment)}
    settings = {WAIT_POLICY: SLEEP, SPINS: SHORT_SPIN, **(MEMORY if glibc else {})}
    return " ".join(f"{name}={value}" for name, value in settings.items() if name not in chosen)
