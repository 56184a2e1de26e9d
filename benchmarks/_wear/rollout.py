"""The wear of one rollout, measured chunk by chunk, so that no rollout is kept whole."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import torch
from torch import Tensor

from ...model.preset import DEMO
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...model.vae.streaming import StreamingDecoder
from ...training.evaluation.kit import Kit, Recipe, decode, sample
from ...training.evaluation.measures import (
    HELD_OUT_SEED,
    as_chunks,
    band_agreement,
    revisit,
    right_readings,
)
from ...training.evaluation.oracle import SPAN
from ...training.world.attributes import caption, random_values
from ...training.world.clips import latent_start
from ...training.world.dataset import encode_shots
from ...training.world.renderer import BALL_RADIUS
from ...training.world.scene import Shot
from .balls import UNLIKE_SCENERY, BallTemplate

OFFSET = 960_000  # of the prompts' seeds, so that no two benches share prompts
ENDS = 0.1  # share of the frames at the start and at the end
TRUE_CLIPS, TRUE_LATENTS = 4, 24  # rendered truth with the prompt's attributes
BALLS_EVERY = 4  # frames
SETTLING = 2 * DEMO.chunk_frames  # latent frames after a turn without a reading
SHIFT = 3  # pixels by which `band_agreement` may move a picture
TURNED = 3  # frames after a turn in which the camera stands still
RETURN = range(56, 89, 2)
"""Frames after a turn at which re-entering scenery was last seen 48 frames ago or more."""

Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Script:
    """What a rollout shows: (first latent frame, prompt), and the attribute values from there."""

    prompts: tuple[tuple[int, str], ...]
    values: tuple[Values, ...]

    def part(self, latent_frame: int) -> int:
        """Return the index of the prompt in force."""
        return sum(first <= latent_frame for first, _ in self.prompts) - 1


def script(seed: int, length: int, turn_every: int = 0) -> Script:
    """Return a random prompt, or the prompts of a camera that turns every few latent frames."""
    rng = random.Random(HELD_OUT_SEED + OFFSET + seed)
    values = random_values(rng)
    if not turn_every:
        return Script(((0, caption(values, rng)),), (values,))
    starts = range(0, length, turn_every)
    parts = tuple({**values, "pan": ("left", "right")[i % 2]} for i in range(len(starts)))
    texts = (caption(part, rng) for part in parts)
    return Script(tuple(zip(starts, texts, strict=True)), parts)


def measure_wear(kit: Kit, seed: int, recipe: Recipe, turn_every: int = 0) -> dict[str, float]:
    """Make a seed's rollout and return its figures.

    The revisit agreement is of another rollout, whose true history ends where the camera turns.
    """
    shown = script(seed, recipe.length, turn_every)
    truth = true_colours(kit, tuple(shown.values[0].items()), recipe.columns * SPATIAL_FACTOR)
    stats = WearStats(kit, shown, truth)
    decoder = StreamingDecoder(kit.vae)
    for chunk in sample(kit, recipe, shown.prompts, seed):
        stats.add(chunk.first_frame, decoder.feed(chunk.latents))
    again = revisit(kit, seed, recipe, memories={"revisit agreement": recipe.cache})
    return stats.figures() | again


@lru_cache(maxsize=1)  # all cases of a seed share their truth
def true_colours(kit: Kit, values: tuple[tuple[str, str], ...], width: int) -> Tensor:
    """Return the mean colours and the contrast (4,) of rendered truth, encoded and decoded.

    `values` are the attributes of the world, `width` the pixels of a picture.
    """
    rng = random.Random(HELD_OUT_SEED)
    shots = [Shot(((0, dict(values)),), rng.randrange(2**31)) for _ in range(TRUE_CLIPS)]
    clips = encode_shots(kit.vae, shots, TRUE_LATENTS, width).float()
    return torch.cat([colours(decode(kit, as_chunks(clip))) for clip in clips]).mean(0)


def colours(frames: Tensor) -> Tensor:
    """Return the mean of each channel and the deviation of luma of frames, in 8-bit steps (t, 4).

    The frames (t, 3, H, W) lie in [0, 1].
    """
    contrast = frames.mean(1).flatten(1).std(1)
    return 255 * torch.cat([frames.mean((2, 3)), contrast[:, None]], 1)


class WearStats:
    """The measurements of one rollout, frame by frame."""

    def __init__(self, kit: Kit, shown: Script, truth: Tensor) -> None:
        self._kit, self._script, self._truth = kit, shown, truth
        self._ball = BallTemplate.of(shown.values[0])
        self._returns = Returns(shown, self._ball)
        self._colours = list[Tensor]()
        self._right, self._balls = list[float](), list[int]()
        self._inside, self._at_seams = list[float](), list[float]()
        self._last: Tensor | None = None

    def add(self, latent_frame: int, frames: Tensor) -> None:
        """Measure the frames (t, 3, H, W) of the chunk at `latent_frame`."""
        self._colours.append(colours(frames))
        self._balls += self._ball.count(frames[::BALLS_EVERY])
        self._returns.add(latent_start(latent_frame), frames)
        change = 255 * (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))
        self._inside += change.tolist()
        if self._last is not None:
            self._at_seams.append(255 * float((frames[0] - self._last).abs().mean()))
        self._last = frames[-1]
        self._read(latent_frame, frames)

    def figures(self) -> dict[str, float]:
        """Return the figures of the whole rollout."""
        error = (torch.cat(self._colours) - self._truth).abs()
        colour, contrast = error[:, :3].mean(1).tolist(), error[:, 3].tolist()
        figures = {
            "adherence": fmean(self._right),
            "adherence, last tenth": last(self._right),
            "colour drift": last(colour) - first(colour),
            "colour error, last tenth": last(colour),
            "contrast drift": last(contrast) - first(contrast),
            "motion": fmean(self._inside),
            "motion change": abs(math.log(last(self._inside) / max(first(self._inside), 1e-6))),
            "seam": fmean(self._at_seams) / fmean(self._inside),
        }
        return figures | self._ball_figures() | self._returns.figures()

    def _ball_figures(self) -> dict[str, float]:
        if self._script.values[0]["ball"] not in UNLIKE_SCENERY:
            return {}
        return {
            "missing ball": fmean(count == 0 for count in self._balls),
            "doubled ball": fmean(count > 1 for count in self._balls),
        }

    def _read(self, latent_frame: int, frames: Tensor) -> None:
        part = self._script.part(latent_frame)
        start = self._script.prompts[part][0]
        if len(frames) >= SPAN and not 0 < start <= latent_frame < start + SETTLING:
            read = right_readings(self._kit, frames, [0], self._script.values[part])
            self._right.append(fmean(value[0] for value in read.values()))


class Returns:
    """Agreement of scenery that returns after a turn with the same scenery before the turn.

    Pictures whose ball hides a part of this scenery are not compared.
    """

    def __init__(self, shown: Script, ball: BallTemplate) -> None:
        self._ball = ball
        self._turns = {
            latent_start(start): values["pan"]
            for (start, _), values in zip(shown.prompts[1:], shown.values[1:], strict=True)
        }
        self._pictures = dict[int, Tensor]()
        self._agreement = list[float]()

    def add(self, first_frame: int, frames: Tensor) -> None:
        """Compare the frames (t, 3, H, W) from `first_frame` on, where they show a return."""
        if not self._turns:
            return
        for at, picture in enumerate(frames, first_frame):
            turn = max((turn for turn in self._turns if turn <= at), default=None)
            self._pictures[at] = picture
            if turn is not None and at - turn - TURNED in RETURN:
                before = self._pictures[2 * (turn + TURNED) - 1 - at]
                self._compare(before, picture, self._turns[turn])
        oldest = first_frame - 2 * RETURN.stop
        self._pictures = {at: p for at, p in self._pictures.items() if at > oldest}

    def figures(self) -> dict[str, float]:
        """Return the mean agreement, if the camera turned."""
        return {"agreement after turns": fmean(self._agreement)} if self._agreement else {}

    def _compare(self, before: Tensor, after: Tensor, pan: str) -> None:
        """Compare the third where scenery re-enters: the right one when the camera pans right."""
        width, mirror = after.shape[-1], pan == "left"
        columns = [self._ball.column(picture) for picture in (before, after)]
        right = max(width - 1 - column if mirror else column for column in columns)
        if right + BALL_RADIUS < 2 * width // 3 - SHIFT:
            pictures = (p.flip(-1) if mirror else p for p in (after, before))
            self._agreement.append(band_agreement(*pictures))


def first(values: list[float]) -> float:
    """Return the mean of the first tenth."""
    return fmean(values[: max(1, round(ENDS * len(values)))])


def last(values: list[float]) -> float:
    """Return the mean of the last tenth."""
    return fmean(values[-max(1, round(ENDS * len(values))) :])
