"""Top-aligned positions: the sink at the bottom of the trained range, the window at its top."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from longtake.attention.cache.policy import (
    CachePolicy,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput, Unsupported
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import SINK, vanilla
from longtake.samplers.loop import Loop, generate
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.positions import TopAligned
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.ruled_loop import Rules, ruled_loop
from longtake.tests.support.tiny_model import TINY, random_dit, settings, timeline

LADDER, LENGTH = flow_ladder(3, 3.0), 23
DIT = random_dit()


def shot(trained: int | None, **changes: Any) -> RolloutSettings:
    rules = MemoryRules(positions=None if trained is None else TopAligned(trained))
    chosen = {"prompts": timeline(0, 6), "cache": WindowSink(8, 2), "memory": rules, **changes}
    return settings(causal_chunks(LADDER, 3), LENGTH, **chosen)


def latents(chosen: RolloutSettings) -> Tensor:
    chunks = generate(chosen, local_denoiser(DIT, TINY))
    return torch.cat([chunk.latents for chunk in chunks])


@pytest.mark.parametrize("trained", [None, 12, 16, 100])
def test_the_window_stands_at_the_top_of_the_trained_range(trained: int | None) -> None:
    video = latents(shot(trained))
    rules = Rules(8, 2, trained=trained)
    expected = ruled_loop(DIT, timeline(0, 6), [*LADDER], rules, LENGTH)
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(video, latents(shot(None)), atol=1e-3) == (trained is None)


def test_the_published_positions() -> None:
    """Of 21 with a sink of 3, a window of 6 more and a chunk of 3: 0 to 2 and 12 to 20."""
    chosen = dataclasses.replace(shot(21, cache=WindowSink(9, 3)), length=60)
    loop = Loop(chosen, local_denoiser(DIT, TINY))
    for chunk in loop.chunks():
        if chunk.index == 15:
            break
    cache, start = loop.branches.caches[0], loop.branches.caches[0].next_position
    positions = [*cache.positions, *range(start, start + 3)]
    assert sorted(positions) == [0, 1, 2, *range(12, 21)]


@pytest.mark.parametrize("trained", [1, 8, 11])
def test_a_window_that_fills_the_range_leaves_no_gap(trained: int) -> None:
    assert torch.equal(latents(shot(trained)), latents(shot(None)))


def test_without_a_sink_there_is_no_gap() -> None:
    cache = WindowSink(6)
    assert torch.equal(latents(shot(21, cache=cache)), latents(shot(None, cache=cache)))


def test_a_rebuilt_history_has_the_same_positions() -> None:
    """Whole chunks that each see all before them: rebuilding equals keeping while all is held."""
    for trained in (None, 16):
        kept = latents(shot(trained, cache=WindowSink(9, 3), prompts=timeline(0)))
        rebuilt = latents(shot(trained, cache=RebuiltWindow(9, 3), prompts=timeline(0)))
        torch.testing.assert_close(rebuilt[:12], kept[:12], rtol=1e-4, atol=1e-4)
    loop = Loop(shot(16, cache=RebuiltWindow(9, 3)), local_denoiser(DIT, TINY))
    for _ in loop.chunks():
        pass
    assert sorted(loop.branches.caches[0].positions) == [0, 1, 2, *range(7, 13)]


def test_a_view_of_the_sink_keeps_its_distance() -> None:
    """The cut out of the whole history, and the exact one in a cache of its own."""
    cut, exact = (vanilla(1.5, dataclasses.replace(SINK, exact=exact)) for exact in (False, True))
    for guidance in (cut, exact):
        with_gap, without = (
            latents(shot(t, cache=WindowSink(9, 3), guidance=guidance)) for t in (16, None)
        )
        assert not torch.allclose(with_gap, without, atol=1e-3)


@pytest.mark.parametrize(
    "cache",
    [
        FullHistory(),
        MostAttended(6, 1),
        MemoryBank(6, 1),
        TempCache(6, sink_frames=1),
        TetherCache(6, 1),
        DistantSink(6, 1),
        SharedWindow(9, 1),
        WaveWindow(9, 1),
        AnchorWindow(6, 1),
    ],
    ids=str,
)
def test_a_history_that_is_no_sink_and_window_is_refused(cache: CachePolicy) -> None:
    with pytest.raises(Unsupported, match="is not a sink and a window"):
        shot(16, cache=cache)


def test_a_trained_range_has_a_frame() -> None:
    with pytest.raises(BadInput, match="1 latent frame or more"):
        TopAligned(0)
