"""Where the frames of a history stand in time for the model."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BadInput


@dataclass(frozen=True, slots=True)
class TopAligned:
    """The sink at the bottom of the trained range and the window at its top, with a gap between.

    `trained_frames` latent frames are the range, the frames in work included (SGF's streaming
    positions: of 21 with a sink of 3, 0 to 2 and 12 to 20). Positions without this rule leave no
    gap: the window follows the sink.
    """

    trained_frames: int

    def __post_init__(self) -> None:
        if self.trained_frames < 1:
            raise BadInput(
                f"A trained range has 1 latent frame or more; got {self.trained_frames}."
            )

    def gap(self, next_frame: int, past_frames: int, active_frames: int) -> int:
        """The positions between sink and window while `past_frames` come before `next_frame`.

        0 until frames leave the window, and where the window fills the trained range.
        """
        first_active = min(next_frame, self.trained_frames - active_frames)
        return max(0, first_active - past_frames)
