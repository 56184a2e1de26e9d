"""One known latent frame of a rollout, in memory or read on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from ...errors import BadInput
from ...machine.uploads import upload_numbers
from ..solvers.noise_process import NoiseProcess, mix
from .digest import embedding_digest


class LazyLatents(Protocol):
    """The latents of one frame, read on demand, so that a video may have any length."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows and columns."""

    @property
    def source(self) -> object:
        """What a host must claim before the latents are read."""

    @property
    def digest(self) -> str:
        """Identifies the values without reading them."""

    def read(self) -> Tensor:
        """The latents (c, h, w), normalised."""


@dataclass(frozen=True, slots=True)
class KnownFrame:
    """Normalised latents (c, h, w) of one latent frame of the rollout.

    The frame waits at `level`, mixed with its own noise, until the schedule falls below that level.
    Level 0 keeps the latents unchanged, level 1 ignores them, and levels between keep what survives
    that much noise.

    The frame belongs to the chunk it falls in; chunks up to `lookahead` latent frames earlier see
    it too. `digest` identifies the latents.
    """

    frame: int
    latents: Tensor | LazyLatents = field(repr=False, compare=False)
    level: float = 0.0
    lookahead: int = 0
    digest: str = ""

    def __post_init__(self) -> None:
        if self.frame < 0:
            raise BadInput(f"A known frame is at latent frame 0 or later; got {self.frame}.")
        if not 0 <= self.level <= 1:
            raise BadInput(f"The level of a known frame is from 0 to 1; got {self.level}.")
        if self.lookahead < 0:
            raise BadInput(
                f"A known frame is seen 0 or more latent frames ahead; got {self.lookahead}."
            )
        if isinstance(self.latents, Tensor):
            self._check(self.latents)
            name = self.digest or embedding_digest(self.latents)
            object.__setattr__(self, "digest", name)
        else:
            object.__setattr__(self, "digest", self.latents.digest)

    @property
    def is_redrawn(self) -> bool:
        """Whether its chunk changes the frame, and no earlier chunk sees it."""
        return self.level > 0 and self.lookahead == 0

    def read(self) -> Tensor:
        """The latents, read if necessary."""
        if isinstance(self.latents, Tensor):
            return self.latents
        latents = self.latents.read()
        self._check(latents)
        return latents

    def with_latents_read(self) -> KnownFrame:
        """Read lazy latents now; the digest stays."""
        return replace(self, latents=self.read().cpu())

    def _check(self, latents: Tensor) -> None:
        if not latents.isfinite().all():
            raise BadInput(
                f"The known latents at latent frame {self.frame} are not finite; encode them in "
                "float32 or bfloat16, from pictures without NaN."
            )


@dataclass(frozen=True, slots=True)
class LookaheadFrames:
    """Known latent frames that are seen before they are active.

    `frames` are their indices, `latents` (f, c, h, w) and `levels` their noise levels.
    """

    frames: Sequence[int]
    latents: Tensor
    levels: Sequence[float]

    def add_noise(self, noise: Tensor, least: float, process: NoiseProcess) -> LookaheadFrames:
        """Mix `noise` in, at level `least` or at the frame's own level if that is higher."""
        levels = [max(level, least) for level in self.levels]
        level = upload_numbers(levels, self.latents).view(-1, 1, 1, 1)
        return LookaheadFrames(self.frames, mix(process, self.latents, noise, level), levels)
