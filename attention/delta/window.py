"""A window whose leaving frames are written into a state of constant size."""

from __future__ import annotations

from dataclasses import dataclass

from ..cache.policy import WindowSink


@dataclass(frozen=True, slots=True)
class DeltaWindow(WindowSink):
    """A sink, a window, and a state that holds what left the window (gated delta rule).

    Only models with gates for the state can run with it.
    """

    @property
    def remembers(self) -> bool:
        """True: the state depends on every frame that has left the window."""
        return True
