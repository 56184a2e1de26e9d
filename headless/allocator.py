"""How glibc's allocator keeps freed memory: it is used again, not given back to the system.

By default glibc gives large tensors back as soon as they are free. The next tensor then takes its
pages from the system again, which clears each of them: on a small model a tenth of the processor's
time. Other allocators, such as those of macOS and Windows, are left as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Protocol

from ..machine.processor_settings import KEPT_BYTES, MAPPED_BYTES, MEMORY

TRIM_THRESHOLD, MMAP_THRESHOLD, MAX_ARENAS = -1, -3, -8  # glibc's malloc.h
CHOSEN_BY_USER = (*MEMORY, "GLIBC_TUNABLES")


class CLibrary(Protocol):
    """The functions of the C library that the process runs on."""

    def gnu_get_libc_version(self) -> object:
        """Exists in glibc alone."""

    def mallopt(self, option: int, value: int, /) -> int:
        """Set an option of the allocator; 0 if it is refused."""


def keep_freed_memory(environment: Mapping[str, str], library: CLibrary | None = None) -> bool:
    """Keep freed memory with the process; False where that is not possible or the user chose.

    All threads share one heap, since a heap of a thread's own is given back when it is empty.
    """
    if any(name in environment for name in CHOSEN_BY_USER):
        return False
    try:
        c: CLibrary = library or ctypes.CDLL(None)
        c.gnu_get_libc_version  # noqa: B018
    except (OSError, TypeError, AttributeError):  # no glibc: Windows, macOS, musl
        return False
    options = (MMAP_THRESHOLD, MAPPED_BYTES), (TRIM_THRESHOLD, KEPT_BYTES), (MAX_ARENAS, 1)
    return all([c.mallopt(option, value) for option, value in options])
