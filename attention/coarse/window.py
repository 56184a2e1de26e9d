"""The policy of a window whose older latent frames are coarse."""

from __future__ import annotations

from dataclasses import dataclass

from ..cache.policy import RebuiltWindow


@dataclass(frozen=True, slots=True)
class CoarseWindow(RebuiltWindow):
    """A rebuilt window whose frames older than the newest `fine_frames` have coarse tokens.

    Pure noise in its place is never coarse: no model was trained with it.

    Source: the long context of FAR (arXiv 2503.19325, section 3.3) as AnyFlow has it. It reads two
    chunks of its past as they are, and all chunks before in patches of twice the size.
    """

    fine_frames: int = 6

    def __post_init__(self) -> None:
        RebuiltWindow.__post_init__(self)
        if self.fine_frames < 1:
            raise ValueError(f"fine_frames must be at least 1; got {self.fine_frames}")

    def is_old(self, frame: int, newest: int) -> bool:
        """Whether a commit that begins with `frame` is too old to stay fine."""
        return frame <= newest - self.fine_frames

    def coarse_slots(self, chunk_frames: int) -> int:
        """The most coarse frames, where up to `chunk_frames` are committed together."""
        straddling = chunk_frames - 1  # frames that are coarse since their chunk begins before
        most = self.window_frames - self.fine_frames + straddling
        return min(self.window_frames, max(1, most, self.sink_frames))

    def fine_slots(self, chunk_frames: int) -> int:
        """The most frames that are as they were generated."""
        return min(self.window_frames, max(self.fine_frames, chunk_frames))
