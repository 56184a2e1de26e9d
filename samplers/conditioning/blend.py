"""How one prompt takes the place of another slowly."""

from __future__ import annotations

from dataclasses import dataclass

STEPS_BEYOND = 16  # chunks after a shot's end in which prompts still blend, for a later continue
MAX_STEPS = 200_000  # prompts in between, of all blends of a shot: a day of chunks of 3


@dataclass(frozen=True, slots=True)
class Blend:
    """How a prompt comes into force: by equal parts, one a chunk of `chunk_frames` latent frames.

    The prompt is complete after `parts` of them. Only the first `steps` parts are made, so that a
    long blend at the end of a shot does not fill the memory.
    """

    chunk_frames: int
    parts: int
    steps: int

    @classmethod
    def at(cls, start: int, parts: int, chunk_frames: int, length: int | None) -> Blend | None:
        """A blend from latent frame `start` on in a shot of `length`, or without an end.

        None if the prompt begins at once, as the first one does: nothing is before it.
        """
        if not start or parts < 1:
            return None
        steps = parts
        if length is not None:
            left = length + STEPS_BEYOND * chunk_frames - start
            steps = min(parts, max(1, -(-left // chunk_frames)))
        return cls(chunk_frames, parts, steps)

    def starts(self, first: int, stop: int | None) -> range:
        """The latent frames, from `first` on, that get another part before the next prompt."""
        end = first + min(self.parts, self.steps) * self.chunk_frames
        return range(first, end if stop is None else min(end, stop), self.chunk_frames)

    def end(self, first: int) -> int:
        """The latent frame from which a prompt that starts at `first` is complete."""
        return first + self.parts * self.chunk_frames
