"""Guided rollouts without a cache, written from the papers: for each chunk and step, each branch
passes the whole sequence through the model. Euler, one prompt per latent frame, causal chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.dit import TextKV, WanDiT, predict, project_text
from longtake.samplers.noise import addressed_noise
from longtake.samplers.prompts import PromptTimeline
from longtake.tests.tiny_model import TINY

ROWS, COLUMNS, CHUNK, SEED = 4, 6, 3, 5
TOKENS = ROWS * COLUMNS // 4


Given = Mapping[int, Tensor]
"""Clean latents (c, h, w) that are known, by latent frame."""


@dataclass(frozen=True)
class Term:
    """w, and what is seen: `visible` latent frames at noise `level`; `kept` ones are in the pass
    too but hidden from the chunk (a cut out of a cache); `negative` for chunk and for history.

    `context` gives the level of context noise of each frame instead, and `draw` which noise.
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
    again: Callable[[Tensor], Tensor] | None = None  # the oldest visible one, from all up to it

    def level_of(self, frame: int) -> float:
        """The noise level of one latent frame of the history."""
        return self.context(frame) if self.context else self.level


def noise(frame: int, purpose: str, draw: int = 0) -> Tensor:
    """The addressed noise of one latent frame."""
    return addressed_noise(SEED, frame, draw, purpose, (TINY.out_channels, ROWS, COLUMNS))


def noisy_history(history: Tensor, frame: int, term: Term) -> Tensor:
    """One frame of the history at its level; at 1 content is gone."""
    level = term.level_of(frame)
    if term.again is not None and 0 < frame == term.visible[0]:
        return term.again(history[: frame + 1])
    if level == 1:
        return noise(frame, "masked history")
    purpose = "context" if term.context else "fractional history"
    return (1 - level) * history[frame] + level * noise(frame, purpose, term.draw)


def branch(  # noqa: PLR0913
    dit: WanDiT, prompts: PromptTimeline, term: Term, history: Tensor, x: Tensor,
    levels: Sequence[float], given: Given,
) -> Tensor:  # fmt: skip
    """One branch's velocity of the chunk x (f, c, h, w) after `history` (f, c, h, w)."""
    first, stop = len(history), len(history) + len(x)
    past = sorted({*term.visible, *term.kept})
    ahead = [] if term.blind else [f for f in given if f >= stop]
    frames = [*past, *range(first, stop), *ahead]
    later = [(1 - term.level) * given[f] + term.level * noise(f, "start") for f in ahead]
    sequence = torch.stack([*(noisy_history(history, f, term) for f in past), *x, *later])
    all_levels = [*(term.level_of(f) for f in past), *levels, *[term.level] * len(ahead)]
    t = torch.tensor(all_levels).double() * 1000
    chunk_of = torch.tensor(frames) // CHUNK
    seen = chunk_of[None] <= chunk_of[:, None]
    for i, frame in enumerate(frames):
        seen[len(past) :, i] &= frame >= first or frame in term.visible
        seen[len(past) :, i] |= frame >= stop
        seen[len(frames) - len(ahead) :, i] &= not first <= frame < stop
    mask = seen.repeat_interleave(TOKENS, 0).repeat_interleave(TOKENS, 1)
    at = rotation(frames, ROWS // 2, COLUMNS // 2, TINY.head_dim)
    text = per_frame_text(dit, prompts, term, frames, first)
    out = predict(dit, sequence[None], t[None], text, WholeSequence(at, mask))
    return out.velocity[0, len(past) : len(past) + len(x)]


def per_frame_text(
    dit: WanDiT, prompts: PromptTimeline, term: Term, frames: Sequence[int], first: int
) -> TextKV:
    """Each latent frame under its own prompt."""
    texts = []
    for frame in frames:
        is_negative = term.negative if frame >= first else term.history_negative
        at = first if term.recommitted and frame < first else frame // CHUNK * CHUNK
        in_force = prompts.negative if is_negative else prompts.at(at).embedding
        texts.append(in_force if term.own is None else term.own)
    return project_text(dit, torch.stack(texts)[None])


def rollout(  # noqa: PLR0913
    dit: WanDiT,
    prompts: PromptTimeline,
    ladder: Sequence[float],
    length: int,
    terms_at: Sequence[Sequence[Term]],
    given: Given = MappingProxyType({}),
) -> Tensor:
    """All latent frames, `given` ones seen from the start on; `terms_at` are each chunk's terms."""
    done = torch.empty(0, TINY.out_channels, ROWS, COLUMNS)
    for terms in terms_at:
        first = len(done)
        frames = range(first, min(first + CHUNK, length))
        x = torch.stack([given.get(frame, noise(frame, "start")) for frame in frames])
        free = torch.tensor([float(frame not in given) for frame in frames])
        for now, after in pairwise(ladder):
            levels = (now * free).tolist()
            made = [term.weight * branch(dit, prompts, term, done, x, levels, given)
                    for term in terms]  # fmt: skip
            x = x + (after - now) * free.view(-1, 1, 1, 1) * torch.stack(made).sum(0)
        done = torch.cat([done, x])
    return done
