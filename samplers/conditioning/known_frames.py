"""Known frames: latents that are given, at any places of a rollout and at any noise level.

Noise as masking (Diffusion Forcing, arXiv 2407.01392; DFoT, arXiv 2502.06764): a frame that is
given is one whose noise level starts lower than the others'. So image to video, continuation,
first and last frame, in-betweening and video to video are the same thing with other numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor

from ...errors import BadInput
from ..schedule.rows import Row
from ..solvers.noise_process import NoiseProcess, mixed
from .known_frame import KnownFrame, LazyLatents, LookaheadFrames


@dataclass(frozen=True, slots=True)
class KnownFrames:
    """Known frames in order of time, no two at the same place.

    `later` are those of a video that the rollout is too short for: kept for a longer one, and of no
    effect in this one.
    """

    frames: tuple[KnownFrame, ...] = ()
    later: tuple[KnownFrame, ...] = field(init=False, default=(), repr=False, compare=False)
    _reach: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.frames, key=lambda one: one.frame))
        for one, other in zip(ordered, ordered[1:], strict=False):
            if one.frame == other.frame:
                raise BadInput(
                    f"two known frames fall on latent frame {one.frame}; move one, or leave "
                    "one out."
                )
            if one.latents.shape != other.latents.shape:
                raise BadInput(
                    f"the known frames are of different sizes, {_size(one.latents.shape)} and "
                    f"{_size(other.latents.shape)}; bring all pictures to one size first."
                )
        object.__setattr__(self, "frames", ordered)
        object.__setattr__(self, "_reach", max((one.ahead for one in ordered), default=0))

    @property
    def leading(self) -> int:
        """How many latent frames from the first on are kept as they are."""
        clean = (one.level == 0 and one.frame == i for i, one in enumerate(self.frames))
        return next((i for i, is_kept in enumerate(clean) if not is_kept), len(self.frames))

    @property
    def stop(self) -> int:
        """The latent frame after the last known one."""
        return self.frames[-1].frame + 1 if self.frames else 0

    def within(self, frames: range) -> tuple[KnownFrame, ...]:
        """The known ones among latent `frames`."""
        first, stop = (
            bisect_left(self.frames, at, key=lambda one: one.frame)
            for at in (frames.start, frames.stop)
        )
        return self.frames[first:stop]

    def seen(self, first: int, stop: int) -> tuple[KnownFrame, ...]:
        """The known ones from latent frame `first` on that are seen while `stop` is the first that
        is not active.
        """
        found = self.within(range(first, stop + self._reach))
        return tuple(one for one in found if one.frame < stop + one.ahead)

    def ahead(self, frames: range, like: Tensor) -> LookaheadFrames | None:
        """Those that are not among the active `frames` yet, with latents like (f, c, h, w)."""
        found = [one for one in self.seen(frames.stop, frames.stop) if one.level < 1]
        if not found:
            return None
        latents = torch.stack([one.read().to(like) for one in found])
        return LookaheadFrames([one.frame for one in found], latents, [one.level for one in found])

    @property
    def max_ahead(self) -> int:
        """The most known frames that are ahead at once."""
        later = [one for one in self.frames[self.leading :] if one.ahead and one.level < 1]
        begins = [(one.frame - one.ahead + 1, 1) for one in later]
        changes = sorted([*begins, *((one.frame + 1, -1) for one in later)])
        return max(accumulate(change for _, change in changes), default=0)

    def kept(self, frames: range) -> list[bool]:
        """Which of latent `frames` are given as they are."""
        clean = {one.frame for one in self.within(frames) if one.level == 0}
        return [frame in clean for frame in frames]

    def leading_rows(self, chunk_frames: int) -> Iterator[Row]:
        """Rows in which the leading frames are there and nothing changes.

        They are chunks too, cut so that the first one that is made begins a whole one: a picture
        before chunks of 3 is a chunk of its own.
        """
        first, stop = 0, self.leading % chunk_frames or chunk_frames
        while first < self.leading:
            still = (0.0,) * (stop - first)
            count = stop - first
            yield Row(first, still, still, (0,) * count, (1,) * count)
            first, stop = stop, stop + chunk_frames

    def limited(self, row: Row) -> Row:
        """The row in which no known frame is above its level."""
        now, after = list(row.now), list(row.after)
        for one in self.within(row.frames):
            i = one.frame - row.first
            now[i], after[i] = min(now[i], one.level), min(after[i], one.level)
        return replace(row, now=tuple(now), after=tuple(after))

    def mixed_into(self, noise: Tensor, frames: range, process: NoiseProcess) -> Tensor:
        """Pure noise (f, c, h, w) of latent `frames`, where known ones are at their levels."""
        x = noise.clone()
        for one in self.within(frames):
            i = one.frame - frames.start
            x[i] = mixed(process, one.read().to(x), noise[i], x.new_tensor(one.level))
        return x

    @property
    def sources(self) -> list[object]:
        """Where latents come from that are not here yet."""
        found = [one.latents.source for one in self.frames if not isinstance(one.latents, Tensor)]
        return [*dict.fromkeys(found)]

    def before(self, length: int | None) -> KnownFrames:
        """Those of a rollout of `length` latent frames (None: without an end): of a video that is
        longer, what comes after that is kept for `later`.
        """
        parts: tuple[list[KnownFrame], list[KnownFrame]] = [], []
        for one in self.whole.frames:
            coming = not isinstance(one.latents, Tensor)
            parts[coming and length is not None and one.frame >= length].append(one)
        kept = KnownFrames(tuple(parts[0]))
        object.__setattr__(kept, "later", tuple(parts[1]))
        return kept

    @property
    def whole(self) -> KnownFrames:
        """All of them, as of a rollout without an end."""
        return KnownFrames((*self.frames, *self.later)) if self.later else self

    def check(self, rows: int, columns: int, length: int | None) -> None:
        """Refuse what does not fit a rollout of these latent sizes."""
        if not self.frames:
            return
        shape = self.frames[0].latents.shape
        if shape[1:] != (rows, columns):
            raise BadInput(
                f"the known frames are {_size(shape)} and the shot is "
                f"{_size((shape[0], rows, columns))}; bring the pictures to the shot's width and "
                "height before they are encoded."
            )
        if length is not None and self.stop > length:
            raise BadInput(
                f"a known frame falls on latent frame {self.stop - 1} and the shot has {length}, "
                "counted from 0; make the shot longer, or give fewer frames."
            )


def sequence(
    latents: Tensor | Sequence[LazyLatents],
    start: int = 0,
    *,
    spacing: int = 1,
    level: float = 0.0,
    ahead: int = 0,
) -> KnownFrames:
    """Latents (f, c, h, w), or as many that are still to come, as known frames from latent frame
    `start` on, one in each `spacing`.
    """
    if spacing < 1:
        raise BadInput(f"known frames are 1 or more latent frames apart; got {spacing}.")
    places = enumerate(latents.float() if isinstance(latents, Tensor) else latents)
    return KnownFrames(tuple(KnownFrame(start + i * spacing, x, level, ahead) for i, x in places))


def together(parts: Iterable[KnownFrames]) -> KnownFrames:
    """All of them."""
    return KnownFrames(tuple(one for part in parts for one in part.frames))


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape) + " (channels x rows x columns)"
