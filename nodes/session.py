"""What outlives a prompt: the only module-level state of the nodes; lost with the process."""

from __future__ import annotations

from ..stream.takes import Takes
from . import host


class Session:
    """`takes` are what pages watch."""

    def __init__(self) -> None:
        self.takes = Takes(host.temp_folder)

    def reset(self) -> None:
        """Forget everything."""
        self.takes.reset()


session = Session()
