"""The share of the disk that a shot without an end may fill with its journal and its files."""

from __future__ import annotations

from collections.abc import Callable

DISK_CAP_BYTES = 50 * 2**30
WARN_FROM = 0.9  # of the cap


class DiskCap:
    """Counts what one run has put on disk; `say` tells whoever watches."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.journal_bytes = 0
        self.files: list[Callable[[], int]] = []  # the size so far of each file being written
        self._say = say
        self._warned = False

    def is_full(self) -> bool:
        """Whether the cap is reached; says so, and once when it is near."""
        used = self.journal_bytes + sum(size() for size in self.files)
        cap = f"{DISK_CAP_BYTES / 2**30:.0f} GB"
        if used >= DISK_CAP_BYTES:
            self._say(
                f"Stopped: the shot has filled {cap} of disk, the most that one without an end may "
                "take; give it a length to go on."
            )
            return True
        if used >= WARN_FROM * DISK_CAP_BYTES and not self._warned:
            self._warned = True
            self._say(f"The shot has filled {used / 2**30:.0f} GB of disk and will stop at {cap}.")
        return False
