"""Context noise: the noise on finished latent frames when the model looks back at them.

A slightly noisy history keeps a model that was trained for it from trusting its own mistakes. The
noise and the timestep that the model gets come from the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BadInput


@dataclass(frozen=True, slots=True)
class ContextNoise:
    """The noise level of finished latent frames in the history.

    A constant level is applied once, when a frame is committed. With `ramp_frames` the level grows
    with age (the newest frame is 1 old) up to `level` at that age. `fresh` draws new noise for
    every chunk. Both commit the whole window again before each chunk.
    """

    level: float = 0.0
    ramp_frames: int = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.level < 1:
            raise BadInput(f"context_noise must be at least 0 and below 1; got {self.level}.")
        if self.ramp_frames < 0:
            raise BadInput(
                "A context noise ramp is a number of latent frames, 0 for none; got "
                f"{self.ramp_frames}."
            )

    @property
    def recommits(self) -> bool:
        """Whether the window is committed again before each chunk."""
        return self.level > 0 and (self.ramp_frames > 0 or self.fresh)

    def at(self, age: int) -> float:
        """The level of a frame `age` latent frames before the first active one."""
        return self.level * min(1.0, age / self.ramp_frames) if self.ramp_frames else self.level
