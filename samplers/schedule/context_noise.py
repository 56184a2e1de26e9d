"""Context noise: how noisy finished latent frames are when the model looks back at them.

Slightly noisy history is what keeps a model trained for it from believing its own mistakes. The
noise is really there and the model is told so: label and data come from the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BadInput


@dataclass(frozen=True, slots=True)
class ContextNoise:
    """The noise level of finished latent frames in the history.

    Constant and frozen, it is there once, when a frame is committed. With `ramp_frames` it grows
    with age (the newest frame is 1 old) and reaches `level` at that age; `fresh` draws it anew for
    every chunk. Both mean that the whole window is committed again before each chunk: as many
    passes as it holds chunks.
    """

    level: float = 0.0
    ramp_frames: int = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.level < 1:
            raise BadInput(f"context_noise must be at least 0 and below 1; got {self.level}.")
        if self.ramp_frames < 0:
            raise BadInput(
                "a context noise ramp is a number of latent frames, 0 for none; got "
                f"{self.ramp_frames}."
            )

    @property
    def recommits(self) -> bool:
        """Whether the window is committed again before each chunk."""
        return self.level > 0 and (self.ramp_frames > 0 or self.fresh)

    def at(self, age: int) -> float:
        """The level of a frame `age` latent frames before the first active one."""
        return self.level * min(1.0, age / self.ramp_frames) if self.ramp_frames else self.level
