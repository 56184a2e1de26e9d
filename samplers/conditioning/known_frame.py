"""One known latent frame of a rollout, here already or read when it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from ...errors import BadInput
from ..solvers.noise_process import NoiseProcess, mixed
from .prompts import embedding_digest


class LazyLatents(Protocol):
    """Latents that are read only when they are wanted: those of a video of any length."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows and columns."""

    @property
    def source(self) -> object:
        """What a host makes room for before they are read."""

    @property
    def digest(self) -> str:
        """Names the values, without reading them."""

    def read(self) -> Tensor:
        """The latents (c, h, w), normalised."""


@dataclass(frozen=True, slots=True)
class KnownFrame:
    """Latents (c, h, w), normalised, of one latent frame of the rollout.

    The frame starts at `level` instead of at pure noise: it waits there, mixed with its own noise,
    while the schedule is above, and goes down with the schedule from there. So 0 is kept as it is,
    1 is not known at all, and between the two what survives that much noise is kept.

    It is part of the chunk it falls in; so many latent frames `ahead` of that it is seen already.
    `digest` names the latents: by their values, unless they were to come and have a name already.
    """

    frame: int
    latents: Tensor | LazyLatents = field(repr=False, compare=False)
    level: float = 0.0
    ahead: int = 0
    digest: str = ""

    def __post_init__(self) -> None:
        if self.frame < 0:
            raise BadInput(f"a known frame is at latent frame 0 or later; got {self.frame}.")
        if not 0 <= self.level <= 1:
            raise BadInput(f"the level of a known frame is from 0 to 1; got {self.level}.")
        if self.ahead < 0:
            raise BadInput(
                f"a known frame is seen 0 or more latent frames ahead; got {self.ahead}."
            )
        if isinstance(self.latents, Tensor):
            self._check(self.latents)
            name = self.digest or embedding_digest(self.latents)
            object.__setattr__(self, "digest", name)
        else:
            object.__setattr__(self, "digest", self.latents.digest)

    def read(self) -> Tensor:
        """The latents, brought here if they were not yet."""
        if isinstance(self.latents, Tensor):
            return self.latents
        latents = self.latents.read()
        self._check(latents)
        return latents

    def here(self) -> KnownFrame:
        """The same, with latents that need not be read any more, under the name they have."""
        return replace(self, latents=self.read().cpu())

    def _check(self, latents: Tensor) -> None:
        if not latents.isfinite().all():
            raise BadInput(
                f"the known latents at latent frame {self.frame} are not finite; encode them in "
                "float32 or bfloat16."
            )


@dataclass(frozen=True, slots=True)
class LookaheadFrames:
    """Known latent frames that are seen before they are active: which, their latents (f, c, h, w),
    clean unless said otherwise, and their noise levels.
    """

    frames: Sequence[int]
    latents: Tensor
    levels: Sequence[float]

    def noised(self, noise: Tensor, least: float, process: NoiseProcess) -> LookaheadFrames:
        """The same with `noise` mixed in, at level `least` or their own if that is higher."""
        levels = [max(level, least) for level in self.levels]
        level = self.latents.new_tensor(levels).view(-1, 1, 1, 1)
        return LookaheadFrames(self.frames, mixed(process, self.latents, noise, level), levels)
