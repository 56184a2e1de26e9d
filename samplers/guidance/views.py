"""History views: which latent frames of the past a branch sees, and how noisy.

A view is DFoT's pair H_i and k_i (arXiv 2502.06764, section 4). Noise is a mask: level 1 is pure
noise, the trained way to see nothing. Levels are flow noise fractions sigma, not indices of another
model's schedule.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import BadInput
from .prompt import Prompt


@dataclass(frozen=True, slots=True)
class AllFrames:
    """Every finished latent frame that the KV cache holds."""

    def ranks(self, frames: Sequence[int], sink: int) -> range:
        """The ranks of all history `frames`, oldest first."""
        return range(len(frames))

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True, slots=True)
class AgeRange:
    """The frames from `newest` to `oldest` back, both included; 1 is the newest finished one.

    Evicted frames count too: a sink frame keeps its true age however small the window is.
    """

    newest: int
    oldest: int

    def __post_init__(self) -> None:
        if not 1 <= self.newest <= self.oldest:
            raise BadInput(
                "A range of the history counts latent frames back from 1, the newest; got "
                f"{self.newest} to {self.oldest}."
            )

    def ranks(self, frames: Sequence[int], sink: int) -> range:
        """The ranks of the history `frames` whose age is in the range."""
        after = frames[-1] + 1 if frames else 0
        start = bisect_left(frames, after - self.oldest)
        return range(start, bisect_right(frames, after - self.newest))

    def __str__(self) -> str:
        return f"{self.newest} to {self.oldest} back" if self.newest > 1 else f"last {self.oldest}"


@dataclass(frozen=True, slots=True)
class SinkFrames:
    """The first latent frames of the rollout, which the KV cache never evicts."""

    def ranks(self, frames: Sequence[int], sink: int) -> range:
        """The ranks of the first `sink` history `frames`."""
        return range(min(len(frames), sink))

    def __str__(self) -> str:
        return "sink"


@dataclass(frozen=True, slots=True)
class NoFrames:
    """No history: the query attends to the active frames alone, as in a first chunk."""

    def ranks(self, frames: Sequence[int], sink: int) -> range:
        return range(0)

    def __str__(self) -> str:
        return "nothing"


FrameSelection = AllFrames | AgeRange | SinkFrames | NoFrames


@dataclass(frozen=True, slots=True)
class View:
    """What a branch sees of the history.

    `level` is the noise on it: 0 is the history as committed, 1 pure noise; levels between have a
    KV cache of their own.

    Frames that are cut out of a longer cache still remember the rest, because deep keys do. `exact`
    passes the selected frames alone through the model before each chunk. `commit_prompt` is the
    prompt that the history was committed with, if not the branch's own; branches then share a
    cache.
    """

    frames: FrameSelection = AllFrames()
    level: float = 0.0
    exact: bool = False
    commit_prompt: Prompt | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise BadInput(f"The noise level of a history view is from 0 to 1; got {self.level}.")

    @property
    def seen_level(self) -> float:
        """The noise level of the frames that the view sees; 0 where it sees none."""
        return 0.0 if isinstance(self.frames, NoFrames) else self.level

    @property
    def pure_noise(self) -> bool:
        """Whether the view sees a history of pure noise."""
        return self.seen_level == 1

    @property
    def rebuilt(self) -> bool:
        """Whether the view has a cache that is rebuilt before each chunk."""
        return self.exact and not self.pure_noise and not isinstance(self.frames, NoFrames)

    @property
    def level_ahead(self) -> float | None:
        """The noise level at which the view sees known future frames; None if it does not.

        Future known frames count as history. Views by age keep them; views of the sink or of no
        history do not.
        """
        return None if isinstance(self.frames, (NoFrames, SinkFrames)) else self.level

    def __str__(self) -> str:
        """Describe the view, for example `last 4, exact`."""
        if self.pure_noise:
            return (
                "pure noise"
                if isinstance(self.frames, AllFrames)
                else f"{self.frames} as pure noise"
            )
        noisy = self.level > 0 and not isinstance(self.frames, NoFrames)
        name = f"{self.frames} at noise {self.level:g}" if noisy else str(self.frames)
        return f"{name}, exact" if self.rebuilt else name


ALL = View()
"""The whole history: the conditional branch."""

NOISE = View(level=1.0)
"""No history as Diffusion Forcing knows it: as many latent frames of pure noise, at t = 1000. They
do not depend on the video, so their keys are made once per prompt. For models trained with
independent noise levels.
"""

SINK = View(SinkFrames())
"""Only the sink: keeps the scene and spares the model the belief that it makes a first chunk. For
the Self-Forcing family, which never saw noisy history.
"""

DROP = View(NoFrames())
"""No history at all: exact and free, but the model believes that it makes the first chunk and gives
its frames a first chunk's statistics (MAGI-1 was trained for it).
"""


def last(frames: int, *, exact: bool = False) -> View:
    """The newest `frames` latent frames."""
    return View(AgeRange(1, frames), exact=exact)


def noisy(level: float) -> View:
    """The whole history at a noise level: fractional history guidance."""
    return View(level=level)
