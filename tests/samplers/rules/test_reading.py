"""Memory rules: each equals a loop over plain lists, and changes nothing at its neutral value."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import RebuiltWindow, WindowSink
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.errors import BadInput
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import NewestFrames
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.ruled_loop import Rules, ruled_loop
from longtake.tests.support.tiny_model import TINY, random_dit, settings, timeline

LADDER, LENGTH = flow_ladder(3, 3.0), 17
DIT = random_dit()
WINDOW = WindowSink(8, 2)
DENSE_BLOCKS = Sparsity(SparseSelf(1.0, 0.0, (), 0.0, min_keys=0))


def shot(memory: MemoryRules = MemoryRules(), **changes: Any) -> RolloutSettings:  # noqa: B008
    chosen = {"prompts": timeline(0, 6), "cache": WINDOW, "memory": memory, **changes}
    return settings(causal_chunks(LADDER, 3), LENGTH, **chosen)


def latents(chosen: RolloutSettings) -> Tensor:
    chunks = generate(chosen, local_denoiser(DIT, TINY))
    return torch.cat([chunk.latents for chunk in chunks])


def naive(**rules: Any) -> Tensor:
    return ruled_loop(DIT, timeline(0, 6), [*LADDER], Rules(8, 2, **rules), LENGTH)


@pytest.mark.parametrize("frames", [None, 0, 2, 4, 6])
@pytest.mark.parametrize("sparsity", [Sparsity(), DENSE_BLOCKS], ids=["dense", "blocks"])
def test_a_commit_sees_only_the_newest_frames(frames: int | None, sparsity: Sparsity) -> None:
    rule = None if frames is None else NewestFrames(frames)
    video = latents(shot(MemoryRules(commit=rule), sparsity=sparsity))
    torch.testing.assert_close(video, naive(commit_sees=frames), rtol=1e-4, atol=1e-4)
    assert frames is None or not torch.allclose(video, naive(), atol=1e-2)


def test_a_commit_without_a_sink_that_sees_the_window_sees_everything() -> None:
    cache = WindowSink(6)
    everything = latents(shot(cache=cache))
    ruled = latents(shot(MemoryRules(commit=NewestFrames(6)), cache=cache))
    assert torch.equal(ruled, everything)


def test_a_rebuilt_window_commits_under_the_rule_too() -> None:
    """Each chunk alone: the keys remember nothing, so a rebuild gives the same ones."""
    rules = MemoryRules(commit=NewestFrames(0))
    chosen = shot(rules, prompts=timeline(0), cache=WindowSink(9, 3))
    rebuilt = dataclasses.replace(chosen, cache=RebuiltWindow(9, 3))
    torch.testing.assert_close(latents(rebuilt), latents(chosen), rtol=1e-4, atol=1e-4)


def test_a_commit_cannot_see_fewer_than_no_frames() -> None:
    with pytest.raises(BadInput, match="0 latent frames or more"):
        NewestFrames(-1)
