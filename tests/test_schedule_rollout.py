"""Rollouts of every schedule against a brute-force one, written from the papers: no cache, the
whole sequence through the model at every row under one mask.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.kv_cache import FullHistory
from longtake.attention.rope import rotation
from longtake.model.dit import predict, project_text
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.ladder import flow_ladder
from longtake.samplers.noise import addressed_noise
from longtake.samplers.rollout import generate
from longtake.samplers.schedule import Staggered
from longtake.tests.tiny_model import TINY, random_dit, settings, timeline

ROWS, COLUMNS, SEED, LENGTH = 4, 6, 5, 7
LADDER = flow_ladder(3, 3.0)
DIT = random_dit()


def whole_sequence(x: Tensor, levels: list[float], sees: Tensor) -> Tensor:
    """The velocity of latents x (f, c, h, w) when frame i may look at frames `sees[i]`."""
    by = rotation(range(len(x)), ROWS // 2, COLUMNS // 2, TINY.head_dim)
    tokens = ROWS * COLUMNS // 4
    mask = sees.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
    text = project_text(DIT, timeline(0).at(0).embedding[None, None])
    t = 1000 * torch.tensor(levels, dtype=torch.float64)[None]
    return predict(DIT, x[None], t, text, WholeSequence(by, mask)).velocity[0]


def brute_force(starts: list[int], chunk: int, *, causal: bool) -> Tensor:
    """Euler, where the chunk i takes its first step in row `starts[i]`; frames that finish together
    form one block of the history.
    """
    shape = (TINY.out_channels, ROWS, COLUMNS)
    x = torch.stack([addressed_noise(SEED, f, 0, "start", shape) for f in range(LENGTH)])
    steps = len(LADDER) - 1
    chunk_of = torch.arange(LENGTH) // chunk
    finished_in = torch.tensor([starts[c] + steps for c in chunk_of])  # the rows taken until clean
    for row in range(int(finished_in.max())):
        taken = [min(max(row - starts[c], 0), steps) for c in chunk_of]
        done = finished_in <= row
        count = int(done.long().cumprod(0).sum())  # history: clean from the front on
        started = [f for f in range(LENGTH) if row >= starts[chunk_of[f]]]
        active = torch.arange(LENGTH) <= max(started)
        past = torch.arange(LENGTH) < count
        earlier = finished_in[None] < finished_in[:, None]
        together = finished_in[None] == finished_in[:, None]
        block = (earlier | together) & past[None] & past[:, None]
        window = active[None] & ~past[:, None]
        if causal:
            own = chunk_of[None] <= chunk_of[:, None]
            block, window = block & own, window & own
        sees = (block | window | torch.eye(LENGTH, dtype=torch.bool))[: max(started) + 1]
        seen = x[: max(started) + 1]
        levels = [LADDER[n] for n in taken[: max(started) + 1]]
        v = whole_sequence(seen, levels, sees[:, : max(started) + 1])
        for f in range(len(seen)):
            x[f] += (LADDER[min(taken[f] + (row >= starts[chunk_of[f]]), steps)] - levels[f]) * v[f]
    return x


@pytest.mark.parametrize("within", ["bidirectional", "block-causal"])
@pytest.mark.parametrize(
    ("chunk", "lag", "mirrored"),
    [(3, 3, False), (1, 1, False), (2, 1, False), (2, 2, False), (3, 0, False), (1, 0.5, False),
     (1, 1, True)],
)  # fmt: skip
def test_a_cached_rollout_is_the_whole_sequence_at_every_row(
    chunk: int, lag: float, mirrored: bool, within: str
) -> None:
    schedule = Staggered(LADDER, chunk, lag, mirrored=mirrored, within=within)
    chunks = -(-LENGTH // chunk)
    starts = [int(min(i, chunks - 1 - i) * lag if mirrored else i * lag) for i in range(chunks)]
    s = settings(schedule, LENGTH, prompts=timeline(0), cache=FullHistory())
    ours = torch.cat([c.latents for c in generate(s, local_denoiser(DIT, TINY))])
    expected = brute_force(starts, chunk, causal=within == "block-causal")
    scale = float(expected.abs().max())
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * scale)
