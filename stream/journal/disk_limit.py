"""Limits how much disk a shot without a fixed length may fill with its journal and files."""

from __future__ import annotations

from collections.abc import Callable

DISK_CAP_BYTES = 50 * 2**30
WARN_FROM = 0.9  # of the cap


class DiskCap:
    """Counts the bytes that one run has put on disk; `notify` shows users a sentence."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.journal_bytes = 0
        self.files: list[Callable[[], int]] = []  # the size so far of each file being written
        self._notify = notify
        self._warned = False

    def is_full(self) -> bool:
        """Whether the cap is reached. Notifies users then, and once when it is near."""
        used = self.journal_bytes + sum(size() for size in self.files)
        cap = f"{DISK_CAP_BYTES / 2**30:.0f} GB"
        if used >= DISK_CAP_BYTES:
            self._notify(
                f"Stopped: the shot has filled {cap} of disk, the limit for a shot without a "
                "length; give it a length to continue."
            )
            return True
        if used >= WARN_FROM * DISK_CAP_BYTES and not self._warned:
            self._warned = True
            self._notify(
                f"The shot has filled {used / 2**30:.0f} GB of disk and will stop at {cap}."
            )
        return False
