"""Guided rollouts without a cache, written from the papers: in each row, each branch passes the
whole sequence through the model, whatever the schedule, the solver and the noise process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.dit import PassOptions, TextKV, WanDiT, predict, project_text
from longtake.model.hooks import Hooks
from longtake.samplers.conditioning.prompts import PromptTimeline
from longtake.samplers.noise import addressed_noise
from longtake.tests.support.tiny_model import TINY

ROWS, COLUMNS, CHUNK, SEED = 4, 6, 3, 5
TOKENS = ROWS * COLUMNS // 4


Given = Mapping[int, Tensor]
"""Clean latents (c, h, w) that are known, by latent frame."""


@dataclass(frozen=True)
class Term:
    """w, and what is seen: `visible` latent frames at noise `level`; `kept` ones are in the pass
    too but hidden from the chunk (a cut out of a cache); `negative` for chunk and for history.

    At level 0, frames that were made and not given are at level `stable`; or `context` gives the
    level of context noise of each frame, and `draw` which noise.
    """

    weight: float
    visible: Sequence[int]
    kept: Sequence[int] = ()
    level: float = 0.0
    negative: bool = False
    history_negative: bool = False
    own: Tensor | None = None  # the prompt (l, text_dim) for chunk and history instead
    recommitted: bool = False  # the history under the prompt now in force
    blind: bool = False  # sees no frame that is known ahead; others do, at `level`
    context: Callable[[int], float] | None = None
    draw: int = 0
    stable: float = 0.0
    window: int | None = None  # finished frames see so many before those they finished with
    held: Sequence[int] | None = None  # positions are ranks among these; else in the shot
    again: Callable[[Tensor], Tensor] | None = None  # the oldest visible one, from all up to it
    skipped: Sequence[int] = ()  # layers that change no active latent frame

    def level_of(self, frame: int, given: Given) -> float:
        """The noise level of one latent frame of the history."""
        if self.context:
            return self.context(frame)
        return self.level if self.level or frame in given else self.stable


Terms = Callable[[int], Sequence[Term]]
"""The terms while so many latent frames, from the first on, are finished."""

Step = Callable[[Tensor, Tensor, float, float, Tensor], Tensor]
"""x, its prediction, level, next level and fresh noise of one latent frame to x at that level."""


def euler(x: Tensor, v: Tensor, now: float, after: float, fresh: Tensor) -> Tensor:
    """Along the velocity."""
    return x + (after - now) * v


def flow(level: float) -> tuple[float, float]:
    """How much is clean, how much noise."""
    return 1 - level, level


@dataclass(frozen=True)
class Way:
    """From noise to clean: chunk i takes its first step of `ladder` in row `int(i lag)`, and active
    frames see all active ones or, `causal`, those of their own and earlier chunks.

    `mix` and `told` are the noise process: shares of clean and noise, and what the model is told.
    Frames that are given start at `given_level`. Chunks count from `origin`, and frames before it
    were finished long ago, in chunks that end at it.
    """

    ladder: Sequence[float]
    chunk: int = CHUNK
    lag: float = math.inf
    causal: bool = False
    step: Step = euler
    mix: Callable[[float], tuple[float, float]] = flow
    told: Callable[[float], float] = field(default=lambda level: 1000 * level)
    given_level: float = 0.0
    origin: int = 0

    @property
    def steps(self) -> int:
        """Rows that a chunk takes."""
        return len(self.ladder) - 1

    def chunk_of(self, frame: int) -> int:
        """The number of a latent frame's chunk, negative before the origin."""
        return (frame - self.origin) // self.chunk

    def begin(self, frame: int) -> int:
        """The first latent frame of a latent frame's chunk."""
        return max(0, self.origin + self.chunk_of(frame) * self.chunk)

    def start(self, frame: int) -> int:
        """The row in which a latent frame takes its first step."""
        number = self.chunk_of(frame)
        return int(number * (self.steps if number < 0 else min(self.lag, self.steps)))

    def noisy(self, clean: Tensor, level: float, noise: Tensor) -> Tensor:
        """Clean latents with noise to match a level."""
        clean_share, noise_share = self.mix(level)
        return clean_share * clean + noise_share * noise


@dataclass(frozen=True)
class Guided:
    """What is summed; with `base`, how strong that is where: the base's velocity + strength (the
    sum's - the base's), then bounded by the base's. `strength` is asked for a level, a step and
    whether there is a history.
    """

    terms: Terms
    base: Terms | None = None
    strength: Callable[[float, int, bool], float] = field(default=lambda level, step, started: 1.0)
    bound: Callable[[Tensor, Tensor], Tensor] = field(default=lambda v, base: v)


@dataclass(frozen=True)
class Scene:
    """What stays."""

    dit: WanDiT
    prompts: PromptTimeline
    way: Way
    given: Given


@dataclass(frozen=True)
class Moment:
    """All latents (f, c, h, w) before a row; `active` ones are at `levels`, earlier ones clean."""

    x: Tensor
    active: range
    levels: Sequence[float]


def noise(frame: int, purpose: str, draw: int = 0) -> Tensor:
    """The addressed noise of one latent frame."""
    return addressed_noise(SEED, frame, draw, purpose, (TINY.out_channels, ROWS, COLUMNS))


def noisy_history(scene: Scene, history: Tensor, frame: int, term: Term) -> Tensor:
    """One frame of the history at its level; at 1 content is gone."""
    level = term.level_of(frame, scene.given)
    if term.again is not None and 0 < frame == term.visible[0]:
        return term.again(history[: frame + 1])
    if level == 1:
        return noise(list(term.visible).index(frame), "masked history")
    purpose = "fractional history" if term.level else "context"
    return scene.way.noisy(history[frame], level, noise(frame, purpose, term.draw))


def branch(scene: Scene, term: Term, now: Moment) -> Tensor:
    """One branch's prediction for the active latents (f, c, h, w)."""
    way, given = scene.way, scene.given
    first, stop = now.active.start, now.active.stop
    past = sorted({*term.visible, *term.kept})
    ahead = [] if term.blind else [f for f in given if f >= stop]
    frames = [*past, *now.active, *ahead]
    before = [noisy_history(scene, now.x[:first], f, term) for f in past]
    later = [way.noisy(given[f], term.level, noise(f, "start")) for f in ahead]
    sequence = torch.stack([*before, *now.x[first:stop], *later])
    levels = [*(term.level_of(f, given) for f in past), *now.levels, *[term.level] * len(ahead)]
    t = torch.tensor([[way.told(level) for level in levels]], dtype=torch.float64)
    sees = torch.tensor([[_sees(way, term, now, i, j) for j in frames] for i in frames])
    mask = sees.repeat_interleave(TOKENS, 0).repeat_interleave(TOKENS, 1)
    held = range(first) if term.held is None else term.held
    places = [held.index(f) if f < first else f - first + len(held) for f in frames]
    at = rotation(places, ROWS // 2, COLUMNS // 2, TINY.head_dim)
    text = per_frame_text(scene, term, frames, first)
    active = slice(len(past), len(past) + len(now.active))
    options = PassOptions(hooks=_undoing(term.skipped, active)) if term.skipped else PassOptions()
    out = predict(scene.dit, sequence[None], t, text, WholeSequence(at, mask), options)
    return out.velocity[0, active]


def _undoing(layers: Sequence[int], active: slice) -> Hooks:
    """Hooks that give active latent frames behind each of these layers what was before it."""
    before = list[Tensor]()

    def begin(tokens: Tensor) -> Tensor:
        before.append(tokens[:, active].clone())
        return tokens

    def end(layer: int, tokens: Tensor) -> Tensor:
        if layer in layers:
            tokens[:, active] = before[-1]
        before.append(tokens[:, active].clone())
        return tokens

    return Hooks(patches=(begin,), after_block=(end,))


def _sees(way: Way, term: Term, now: Moment, i: int, j: int) -> bool:
    """Whether latent frame i sees j: finished frames what was finished before or together with
    them (pure noise, counted back from its newest frame, comes in chunks), active ones the visible
    past and one another, known ones ahead the past and one another.
    """
    not_later = way.chunk_of(j) <= way.chunk_of(i) or not way.causal
    if i < now.active.start:
        return j < now.active.start and _saw(way, term, i, j, not_later=not_later)
    if j < now.active.start:
        return j in term.visible
    if j >= now.active.stop:
        return True
    return i < now.active.stop and not_later


def _saw(way: Way, term: Term, i: int, j: int, *, not_later: bool) -> bool:
    """The same of two finished frames."""
    if term.level == 1:
        seen = list(term.visible)
        own, other = ((len(seen) - 1 - seen.index(f)) // way.chunk for f in (i, j))
        return own <= other
    own, other = way.start(i), way.start(j)
    block = next(f for f in range(i + 1) if way.start(f) == own)
    in_window = term.window is None or j >= block - term.window
    return in_window and (other < own or (other == own and not_later))


def per_frame_text(scene: Scene, term: Term, frames: Sequence[int], first: int) -> TextKV:
    """Each latent frame under its own prompt."""
    texts = []
    for frame in frames:
        is_negative = term.negative if frame >= first else term.history_negative
        at = first if term.recommitted and frame < first else frame
        prompt = scene.prompts.at(scene.way.begin(at)).embedding
        in_force = scene.prompts.negative if is_negative else prompt
        texts.append(in_force if term.own is None else term.own)
    return project_text(scene.dit, torch.stack(texts)[None])


def velocity(scene: Scene, guided: Guided, now: Moment, steps: Sequence[int]) -> Tensor:
    """The guided prediction for active latents (f, c, h, w) that have taken so many `steps`."""
    first = now.active.start
    terms = guided.terms(first)
    summed = torch.stack([term.weight * branch(scene, term, now) for term in terms]).sum(0)
    if guided.base is None:
        return summed
    (plain,) = guided.base(first)
    base = branch(scene, plain, now)
    at = zip(now.levels, steps, strict=True)
    strengths = [guided.strength(level, step, first > 0) for level, step in at]
    return guided.bound(base + torch.tensor(strengths).view(-1, 1, 1, 1) * (summed - base), base)


def rollout(
    dit: WanDiT,
    prompts: PromptTimeline,
    way: Way,
    guided: Guided,
    length: int,
    given: Given = MappingProxyType({}),
) -> Tensor:
    """All latent frames (f, c, h, w); `given` ones are there, and seen, from the start on."""
    scene = Scene(dit, prompts, way, given)
    start = [noise(frame, "start") for frame in range(length)]
    for frame, clean in given.items():
        start[frame] = way.noisy(clean, way.given_level, start[frame])
    x = torch.stack(start)
    for row in range(way.start(length - 1) + way.steps):
        taken = [row - way.start(frame) for frame in range(length)]
        first, stop = sum(n >= way.steps for n in taken), sum(n >= 0 for n in taken)
        active, steps = range(first, stop), taken[first:stop]
        levels, after = (
            [min(way.ladder[taken[f] + n], way.given_level if f in given else 1) for f in active]
            for n in (0, 1)
        )
        v = velocity(scene, guided, Moment(x, active, levels), steps)
        moved = x.clone()
        for i, frame in enumerate(active):
            if levels[i] != after[i]:
                fresh = noise(frame, "renoise", steps[i] + 1)
                moved[frame] = way.step(x[frame], v[i], levels[i], after[i], fresh)
        x = moved
    return x
