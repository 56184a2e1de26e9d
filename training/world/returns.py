"""Clips whose camera comes back to what it saw 8 to 600 latent frames before.

Of each clip only what a chunk would be given is rendered: the run of past latent frames that recall
by view fetches, and the newest ones up to the end of three chunks. So a clip may be long.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...model.config import FRAMES_PER_LATENT
from ...model.vae.latent_format import frame_count
from ...model.vae.tiny import TinyVAE
from ...samplers.history.runs import best_runs
from .attributes import changed_values, random_values
from .clips import latent_start
from .dataset import (
    HEIGHT,
    ClipMaker,
    Pool,
    ball_cells,
    caption_rows,
    joined,
    latent_pans,
    latent_travel,
)
from .renderer import render
from .scene import Scene, Shot, scene

NEAREST, FARTHEST = 8, 600  # latent frames that the camera goes away for
BEFORE, RUN, NEWEST, AHEAD = 3, 9, 12, 9
"""Latent frames: before the run, in the run, the newest before a chunk, and those to denoise."""
FIRST = BEFORE + RUN + NEWEST  # where the frames to denoise begin among those of a clip
SPAN = FIRST + AHEAD
WARM_UP = 4  # latent frames that fill the encoder's memory
STRANGE = 0.2  # share of clips whose run is any run, as where the camera was never before
SWITCH = 0.3  # share of clips whose world changes between the run and the return
DRIVEN = 0.5  # share of clips whose camera obeys keys instead of words


@dataclass(frozen=True, slots=True)
class Return:
    """A script, and the latent frame `first` at which a chunk begins that sees the past again."""

    shot: Shot
    first: int

    @property
    def length(self) -> int:
        """Latent frames of the script that matter."""
        return self.first + AHEAD


def random_return(
    rng: random.Random, *, nearest: int = NEAREST, farthest: int = FARTHEST
) -> Return:
    """Script a camera that goes away and comes back; near and far are equally often."""
    away = round(nearest * (farthest / nearest) ** rng.random())
    back = max(1, round(away * rng.uniform(0.1, 0.9)))
    begin = max(0, FIRST - away - back) + rng.randint(0, 9)
    first = begin + away + back
    side = rng.choice([-1, 1])
    values = random_values(rng)
    if rng.random() < DRIVEN:
        speed = rng.choice([1.0, rng.uniform(0.3, 1.0)])
        home = rng.uniform(0.5, 1.0) * min(1.0, away * speed / back)
        pans = [(0, rng.uniform(-1, 1)), (begin, side * speed), (begin + away, -side * home)]
        drive = tuple({latent_start(at): pan for at, pan in pans}.items())
        return Return(_shot(rng, [(0, values)], first, drive), first)
    names = {-1: "left", 1: "right"}
    turns = [(begin, {"pan": names[side]}), (begin + away, {"pan": names[-side]})]
    return Return(_shot(rng, [(0, values), *turns], first, ()), first)


def _shot(
    rng: random.Random,
    events: Sequence[tuple[int, dict[str, str]]],
    first: int,
    drive: tuple[tuple[int, float], ...],
) -> Shot:
    """A shot whose values change at `events`, (latent frame, values), and perhaps once more."""
    changes = [*events]
    if rng.random() < SWITCH:
        names = rng.sample(["ball", "time", "terrain", "weather"], rng.choice([1, 1, 2, 4]))
        others = changed_values(events[0][1], rng, names)
        at = rng.randrange(1, max(2, first - NEWEST))
        changes.append((at, {name: others[name] for name in names}))
    values: dict[str, str] = {}
    entries: dict[int, dict[str, str]] = {}
    for at, change in sorted(changes, key=lambda event: event[0]):
        values = {**values, **change}
        entries[latent_start(at)] = values
    return Shot(tuple(entries.items()), rng.randrange(2**31), drive)


def best_run(rng: random.Random, travel: Tensor, first: int, width: int) -> int:
    """The latent frame at which the run begins that saw most of what the next chunk sees.

    `travel` (f,) are the camera's places. In a share of STRANGE of clips any run is taken.
    """
    past = range(BEFORE, first - NEWEST)
    if rng.random() < STRANGE:
        return rng.randrange(BEFORE, first - NEWEST - RUN + 1)
    apart = (travel[first : first + 3, None] - travel[past.start : past.stop]).abs()
    share = (1 - FRAMES_PER_LATENT * apart / width).clamp(min=0).mean(0)
    return past[best_runs(share.tolist(), RUN, 1)[0]]


@dataclass(frozen=True, slots=True)
class ReturnSpec:
    """A pool of `clips` clips of a `width` in pixels, whose camera comes back.

    A clip holds SPAN latent frames: BEFORE, the RUN, and from NEWEST frames before a chunk on.
    """

    clips: int
    width: int
    nearest: int = NEAREST
    farthest: int = FARTHEST

    @property
    def latent_frames(self) -> int:
        """The latent frames of a clip."""
        return SPAN

    def make(self, maker: ClipMaker, count: int) -> Pool:
        """Script `count` clips and make the frames that a chunk would be given."""
        return joined([self._clip(maker) for _ in range(count)])

    def _clip(self, maker: ClipMaker) -> Pool:
        script = random_return(maker.rng, nearest=self.nearest, farthest=self.farthest)
        shots, length = [script.shot], script.length
        travel = latent_travel(shots, length)
        run = best_run(maker.rng, travel[0], script.first, self.width)
        whole = scene(shots, frame_count(length))
        pieces = (run - BEFORE, BEFORE + RUN), (script.first - NEWEST, NEWEST + AHEAD)
        at = [first + i for first, count in pieces for i in range(count)]
        latents = [encode_piece(maker.vae, whole, *piece, self.width) for piece in pieces]
        ids, which = caption_rows(maker.text, shots, length, maker.rng)
        ball, pans = ball_cells(shots, length, self.width), latent_pans(shots, length)
        return Pool(
            torch.cat(latents, 1).half(), ids, which[:, at], ball[:, at], pans[:, at], travel[:, at]
        )


@torch.no_grad()
def encode_piece(vae: TinyVAE, whole: Scene, first: int, count: int, width: int) -> Tensor:
    """Render and encode `count` latent frames from `first` on: (n, count, 16, 8, width / 8)."""
    begin = max(0, first - WARM_UP)
    pictures = render(whole.frames(latent_start(begin), frame_count(first + count)), HEIGHT, width)
    if begin == 0:  # the first latent stands for one frame, encoded as four copies
        copies = pictures[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1, -1, -1)
        pictures = torch.cat([copies, pictures], 1)
    latents, _ = vae.encode_groups(pictures, vae.start(vae.encoder))
    return latents[:, first - begin :]
