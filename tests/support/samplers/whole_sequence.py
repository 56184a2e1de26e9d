"""Rollouts of any schedule and any known frames without a cache, written from the papers: the whole
sequence through the model at every row, under one mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.dit import predict, project_text
from longtake.samplers.noise import addressed_noise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.tests.support.tiny_model import TINY, random_dit, timeline

ROWS, COLUMNS, SEED, LENGTH = 4, 6, 5, 7
LADDER = flow_ladder(3, 3.0)
DIT = random_dit()


def whole_sequence(x: Tensor, levels: list[float], sees: Tensor, words: Tensor) -> Tensor:
    """The velocity of latents x (f, c, h, w) when frame i may look at frames `sees[i]`, under its
    own prompt `words` (f, l, c).
    """
    by = rotation(range(len(x)), ROWS // 2, COLUMNS // 2, TINY.head_dim)
    tokens = ROWS * COLUMNS // 4
    mask = sees.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
    text = project_text(DIT, words[None])
    t = 1000 * torch.tensor(levels, dtype=torch.float64)[None]
    return predict(DIT, x[None], t, text, WholeSequence(by, mask)).velocity[0]


Known = Mapping[int, tuple[Tensor, float]]
"""Latents (c, h, w) and their level, by latent frame."""


def brute_force(  # noqa: PLR0913
    starts: list[int],
    chunk: int,
    *,
    causal: bool,
    origin: int = 0,
    known: Known | None = None,
    ahead: int = 0,
    prompts: Sequence[int] = (0,),
    reach: Sequence[int] = (),
) -> Tensor:
    """Euler, where the chunk i takes its first step in row `starts[i]`; frames that finish together
    form one block of the history.

    Frames before `origin` were finished long ago, in blocks that end at it; no known frame is ever
    above its level, and the active frames see those that come `ahead` or fewer latent frames after
    them. What is ahead sees the history and one another. Every chunk has its own prompt, and
    looks back as many chunks as `reach` says for its part of the steps.
    """
    known = known or {}
    shape = (TINY.out_channels, ROWS, COLUMNS)
    x = torch.stack([addressed_noise(SEED, f, 0, "start", shape) for f in range(LENGTH)])
    for f, (latents, level) in known.items():
        x[f] = (1 - level) * latents + level * x[f]
    most = [known[f][1] if f in known else 1.0 for f in range(LENGTH)]
    steps = len(LADDER) - 1
    begins = [max(0, origin + (f - origin) // chunk * chunk) for f in range(LENGTH)]
    words = torch.stack([timeline(*prompts).at(f).embedding for f in begins])
    chunk_of = torch.div(torch.arange(LENGTH) - origin, chunk, rounding_mode="floor").tolist()
    starts = [*starts, *(c - steps for c in range(min(chunk_of), 0))]  # read from the end
    finished_in = torch.tensor([starts[c] + steps for c in chunk_of])  # the rows taken until clean
    for row in range(int(finished_in.max())):
        taken = [min(max(row - starts[c], 0), steps) for c in chunk_of]
        done = finished_in <= row
        count = int(done.long().cumprod(0).sum())  # history: clean from the front on
        started = [f for f in range(LENGTH) if row >= starts[chunk_of[f]]]
        active = torch.arange(LENGTH) <= max(started)
        soon = range(max(started) + 1, min(max(started) + 1 + ahead, LENGTH))
        given = torch.tensor([f in soon and f in known for f in range(LENGTH)])
        past = torch.arange(LENGTH) < count
        earlier = finished_in[None] < finished_in[:, None]
        together = finished_in[None] == finished_in[:, None]
        block = (earlier | together) & past[None] & past[:, None]
        window = active[None] & ~past[:, None]
        if causal:
            own = torch.tensor(chunk_of)[None] <= torch.tensor(chunk_of)[:, None]
            block, window = block & own, window & own
        window[given] = past  # what is ahead sees no noisy frame
        window |= given[None] & ~past[:, None]
        for f in range(LENGTH) if reach else ():
            back = reach[min(taken[f] * len(reach) // steps, len(reach) - 1)] - 1
            lowest = origin + (chunk_of[f] - back) * chunk
            window[f] &= torch.arange(LENGTH) >= (lowest if f <= max(started) else 0)
        sees = block | window | torch.eye(LENGTH, dtype=torch.bool)
        levels = [min(LADDER[n], most[f]) for f, n in enumerate(taken)]
        v = whole_sequence(x, levels, sees, words)
        for f in range(max(started) + 1):
            after = LADDER[min(taken[f] + (row >= starts[chunk_of[f]]), steps)]
            x[f] += (min(after, most[f]) - levels[f]) * v[f]
    return x
