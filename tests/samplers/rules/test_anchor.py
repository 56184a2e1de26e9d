"""The anchor: colours and contrast of finished chunks stay near those of an anchor chunk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.errors import BadInput
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import Loop, generate
from longtake.samplers.rules.anchor import Anchor, AnchorChunks, ChannelStatistics
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.ruled_loop import Rules, ruled_loop
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings, timeline

LADDER, LENGTH = flow_ladder(3, 3.0), 17
DIT = random_dit()


def shot(anchor: Anchor | None, **changes: Any) -> RolloutSettings:
    chosen = {"prompts": timeline(0, 6), "cache": WindowSink(8, 2), "anchor": anchor, **changes}
    return settings(causal_chunks(LADDER, 3), LENGTH, **chosen)


def latents(chosen: RolloutSettings) -> Tensor:
    chunks = generate(chosen, local_denoiser(DIT, TINY))
    return torch.cat([chunk.latents for chunk in chunks])


def statistics(x: Tensor) -> Tensor:
    """The mean and the deviation (2, c) of latents (f, c, h, w)."""
    return torch.stack([x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)])


@pytest.mark.parametrize("strength", [0.0, 0.35, 1.0])
def test_every_chunk_moves_toward_the_first_one_under_its_prompt(strength: float) -> None:
    video = latents(shot(Anchor(strength) if strength else None))
    rules = Rules(8, 2, change=6, anchor=strength)
    expected = ruled_loop(DIT, timeline(0, 6), [*LADDER], rules, LENGTH)
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-4)


def test_a_full_strength_gives_every_chunk_the_statistics_of_its_anchor() -> None:
    video, plain = latents(shot(Anchor(1.0))), latents(shot(None))
    first, second = statistics(video[:3]), statistics(video[6:9])
    torch.testing.assert_close(statistics(video[3:6]), first)
    torch.testing.assert_close(statistics(video[9:12]), second)
    assert torch.equal(video[:3], plain[:3]) and not torch.allclose(first, second, atol=1e-2)


def test_a_picture_is_the_anchor_of_every_chunk() -> None:
    picture = randn(1, TINY.out_channels, 4, 6, seed=3)
    video = latents(shot(Anchor(1.0, ChannelStatistics.of(picture))))
    rules = Rules(8, 2, change=6, anchor=1.0, picture=picture)
    expected = ruled_loop(DIT, timeline(0, 6), [*LADDER], rules, LENGTH)
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-4)
    for start in (0, 3, 6, 9):
        torch.testing.assert_close(statistics(video[start : start + 3]), statistics(picture))


def test_known_frames_stay_as_they_are() -> None:
    given = randn(TINY.out_channels, 4, 6, seed=4)
    known = KnownFrames((KnownFrame(0, given), KnownFrame(7, -given)))
    video = latents(shot(Anchor(1.0), known_frames=known))
    assert torch.equal(video[0], given) and torch.equal(video[7], -given)


def test_a_chunk_moves_around_its_known_frames() -> None:
    """By the statistics of the whole chunk, the known frame among them."""
    chunks, first, later = (
        AnchorChunks(Anchor(1.0), 4),
        randn(3, 4, 4, 6),
        randn(3, 4, 4, 6, seed=1),
    )
    none = [False] * 3
    assert torch.equal(chunks.apply(0, first, none, 0), first)
    moved = chunks.apply(3, later, none, 0)
    around = chunks.apply(3, later, [False, True, False], 0)
    assert torch.equal(around[1], later[1]) and not torch.equal(moved[1], later[1])
    assert torch.equal(around[[0, 2]], moved[[0, 2]])


def test_the_anchor_is_in_the_snapshot() -> None:
    """Also where the anchor chunk is not among the chunks that are committed again."""
    chosen = replace(shot(Anchor(0.5), prompts=timeline(0)), schedule=rolling(LADDER))
    loop, other = (Loop(chosen, local_denoiser(DIT, TINY)) for _ in range(2))
    chunks = loop.chunks()
    first = [next(chunks) for _ in range(4)]
    snapshot, index = loop.snapshot(), loop.index
    assert index > 0
    rest = torch.cat([chunk.latents for chunk in chunks])
    other.restore(snapshot)
    again = torch.cat([chunk.latents for chunk in other.chunks(first[index:])])
    assert torch.equal(again, rest)


def test_statistics_do_not_depend_on_how_latents_lie_in_memory() -> None:
    x = randn(3, 4, 6, 5)
    turned = x.permute(1, 3, 0, 2).contiguous().permute(2, 0, 3, 1)
    assert ChannelStatistics.of(turned) == ChannelStatistics.of(x)


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(BadInput, match="strength of an anchor"):
        Anchor(strength)


def test_a_picture_of_another_vae_is_refused() -> None:
    target = ChannelStatistics.of(randn(1, 16, 4, 6))
    with pytest.raises(BadInput, match="has 16 latent channels and the model 4"):
        latents(shot(Anchor(0.5, target)))
