"""Known frames: given latents, anywhere in a rollout and at any noise level.

Noise acts as a mask (Diffusion Forcing, arXiv 2407.01392; DFoT, arXiv 2502.06764): the noise level
of a known frame starts lower than that of other frames. Image to video, continuation, first and
last frame, in-betweening and video to video are one mechanism with different numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor

from ...errors import BadInput
from ...machine.uploads import upload, upload_numbers
from ...model.vae.latent_format import picture_size
from ..schedule.row import Row
from ..solvers.noise_process import NoiseProcess, mix
from .known_frame import KnownFrame, LazyLatents, LookaheadFrames


@dataclass(frozen=True, slots=True)
class KnownFrames:
    """Known frames in order of time, no two at the same place.

    `beyond_end` holds frames of a video that is longer than the rollout. They have no effect, but a
    longer rollout takes them up.
    """

    frames: tuple[KnownFrame, ...] = ()
    beyond_end: tuple[KnownFrame, ...] = field(init=False, default=(), repr=False, compare=False)
    _reach: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.frames, key=lambda known: known.frame))
        for frame, following in zip(ordered, ordered[1:], strict=False):
            if frame.frame == following.frame:
                raise BadInput(
                    f"Two known frames fall on latent frame {frame.frame}; move one, or leave "
                    "one out."
                )
            if frame.latents.shape != following.latents.shape:
                sizes = (picture_size(*known.latents.shape) for known in (frame, following))
                raise BadInput(
                    f"The known frames are of different sizes, {' and '.join(sizes)}; bring all "
                    "pictures to one size first."
                )
        object.__setattr__(self, "frames", ordered)
        object.__setattr__(self, "_reach", max((known.lookahead for known in ordered), default=0))

    @property
    def leading(self) -> int:
        """The number of clean known frames at the start, without a gap."""
        clean = (known.level == 0 and known.frame == i for i, known in enumerate(self.frames))
        return next((i for i, is_kept in enumerate(clean) if not is_kept), len(self.frames))

    @property
    def stop(self) -> int:
        """The latent frame after the last known one."""
        return self.frames[-1].frame + 1 if self.frames else 0

    def among(self, frames: range) -> tuple[KnownFrame, ...]:
        """The known ones among latent `frames`."""
        first, stop = (
            bisect_left(self.frames, at, key=lambda known: known.frame)
            for at in (frames.start, frames.stop)
        )
        return self.frames[first:stop]

    def seen(self, first: int, stop: int) -> tuple[KnownFrame, ...]:
        """The known frames from `first` on that are seen while the active frames end at `stop`."""
        candidates = self.among(range(first, stop + self._reach))
        return tuple(known for known in candidates if known.frame < stop + known.lookahead)

    def ahead(self, stop: int) -> tuple[KnownFrame, ...]:
        """The known frames that passes see ahead of active ones that end at `stop`.

        Frames of level 1 are pure noise, which nobody looks at.
        """
        return tuple(known for known in self.seen(stop, stop) if known.level < 1)

    def lookahead_frames(self, frames: range, like: Tensor) -> LookaheadFrames | None:
        """The known frames ahead of the active `frames`, latents in the dtype of `like`."""
        ahead = self.ahead(frames.stop)
        if not ahead:
            return None
        latents = torch.stack([known.read().to(like) for known in ahead])
        return LookaheadFrames(
            [known.frame for known in ahead], latents, [known.level for known in ahead]
        )

    @property
    def max_lookahead(self) -> int:
        """The maximum number of known frames ahead at once."""
        later = [
            known for known in self.frames[self.leading :] if known.lookahead and known.level < 1
        ]
        starts = [(known.frame - known.lookahead + 1, 1) for known in later]
        changes = sorted([*starts, *((known.frame + 1, -1) for known in later)])
        return max(accumulate(change for _, change in changes), default=0)

    def are_known(self, frames: range) -> list[bool]:
        """For each of `frames`, whether it is a clean known frame."""
        clean = {known.frame for known in self.among(frames) if known.level == 0}
        return [frame in clean for frame in frames]

    def leading_rows(self, chunk_frames: int) -> Iterator[Row]:
        """Rows in which the leading frames are present and nothing changes.

        They form chunks too, divided so that the first generated frame begins a whole chunk. A
        picture before chunks of 3 is a chunk of its own.
        """
        first, stop = 0, self.leading % chunk_frames or chunk_frames
        while first < self.leading:
            still = (0.0,) * (stop - first)
            count = stop - first
            yield Row(first, still, still, (0,) * count, (1,) * count)
            first, stop = stop, stop + chunk_frames

    def limit(self, row: Row) -> Row:
        """The row with every known frame at its own level or below."""
        now, after = list(row.now), list(row.after)
        for known in self.among(row.frames):
            i = known.frame - row.first
            now[i], after[i] = min(now[i], known.level), min(after[i], known.level)
        return replace(row, now=tuple(now), after=tuple(after))

    def mix_into(self, noise: Tensor, frames: range, process: NoiseProcess) -> Tensor:
        """The noise (f, c, h, w) of `frames`, with known frames mixed in at their levels."""
        x = noise.clone()
        for known in self.among(frames):
            i = known.frame - frames.start
            latents = upload(known.read().to(x.dtype), x.device)
            x[i] = mix(process, latents, noise[i], upload_numbers(known.level, x))
        return x

    @property
    def sources(self) -> list[object]:
        """The sources of latents that are not read yet."""
        sources = [
            known.latents.source for known in self.frames if not isinstance(known.latents, Tensor)
        ]
        return [*dict.fromkeys(sources)]

    def before(self, length: int | None) -> KnownFrames:
        """The known frames of a rollout of `length` latent frames; None has no end.

        Frames of a longer video move to `beyond_end`.
        """
        parts: tuple[list[KnownFrame], list[KnownFrame]] = [], []
        for known in self.whole.frames:
            is_lazy = not isinstance(known.latents, Tensor)
            parts[is_lazy and length is not None and known.frame >= length].append(known)
        shortened = KnownFrames(tuple(parts[0]))
        object.__setattr__(shortened, "beyond_end", tuple(parts[1]))
        return shortened

    def with_level(self, start: int, level: float) -> KnownFrames:
        """The same frames, redrawn at another level from latent frame `start` on.

        Frames that stay unchanged, or that earlier chunks see, keep their levels.
        """

        def change(known: KnownFrame) -> KnownFrame:
            is_meant = known.frame >= start and known.is_redrawn
            return replace(known, level=level) if is_meant else known

        changed = KnownFrames(tuple(map(change, self.frames)))
        object.__setattr__(changed, "beyond_end", tuple(map(change, self.beyond_end)))
        return changed

    @property
    def whole(self) -> KnownFrames:
        """All known frames, as in a rollout without an end."""
        return KnownFrames((*self.frames, *self.beyond_end)) if self.beyond_end else self

    def check(self, rows: int, columns: int, length: int | None) -> None:
        """Refuse frames that do not fit a rollout of these latent sizes."""
        if not self.frames:
            return
        shape = self.frames[0].latents.shape
        if shape[1:] != (rows, columns):
            raise BadInput(
                f"The known frames are {picture_size(*shape)} and the shot is "
                f"{picture_size(shape[0], rows, columns)}; bring the pictures to the shot's width "
                "and height before they are encoded."
            )
        if length is not None and self.stop > length:
            raise BadInput(
                f"A known frame falls on latent frame {self.stop - 1} and the shot has {length}, "
                "counted from 0; make the shot longer, or give fewer frames."
            )


def from_latents(
    latents: Tensor | Sequence[LazyLatents],
    start: int = 0,
    *,
    spacing: int = 1,
    level: float = 0.0,
    lookahead: int = 0,
) -> KnownFrames:
    """Place latents (f, c, h, w), or lazy ones, from latent frame `start` on, `spacing` apart."""
    if spacing < 1:
        raise BadInput(f"Known frames are 1 or more latent frames apart; got {spacing}.")
    places = enumerate(latents.float() if isinstance(latents, Tensor) else latents)
    return KnownFrames(
        tuple(KnownFrame(start + i * spacing, x, level, lookahead) for i, x in places)
    )


def merge(parts: Iterable[KnownFrames]) -> KnownFrames:
    """Join known frames of several sources."""
    return KnownFrames(tuple(known for part in parts for known in part.frames))
