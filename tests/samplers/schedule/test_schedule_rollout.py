"""Rollouts of every schedule against a brute-force one."""

from __future__ import annotations

import pytest
import torch

from longtake.attention.cache.policy import FullHistory
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.schedule.rows import StaggeredSchedule
from longtake.tests.support.samplers.whole_sequence import DIT, LADDER, LENGTH, brute_force
from longtake.tests.support.tiny_model import TINY, settings, timeline


@pytest.mark.parametrize("within", ["bidirectional", "block-causal"])
@pytest.mark.parametrize(
    ("chunk", "lag", "mirrored"),
    [(3, 3, False), (1, 1, False), (2, 1, False), (2, 2, False), (3, 0, False), (1, 0.5, False),
     (1, 1, True)],
)  # fmt: skip
def test_a_cached_rollout_is_the_whole_sequence_at_every_row(
    chunk: int, lag: float, mirrored: bool, within: str
) -> None:
    schedule = StaggeredSchedule(LADDER, chunk, lag, mirrored=mirrored, visibility=within)
    chunks = -(-LENGTH // chunk)
    starts = [int(min(i, chunks - 1 - i) * lag if mirrored else i * lag) for i in range(chunks)]
    s = settings(schedule, LENGTH, prompts=timeline(0), cache=FullHistory())
    ours = torch.cat([c.latents for c in generate(s, local_denoiser(DIT, TINY))])
    expected = brute_force(starts, chunk, causal=within == "block-causal")
    scale = float(expected.abs().max())
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * scale)
