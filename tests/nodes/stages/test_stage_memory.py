"""Upscale (Stream) in one plan with the generator, and its failure beside the small frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import flashvsr_bench, sharpened
from longtake.tests.support.nodes.upscaling import Doubler, upscaled
from longtake.units import byte_size

COUNT = 33
TILE_BYTES = 32 * 32 * 3 * 4 * 2 * 384  # the host's estimate for twice 32x32 pixels


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


class Heavy(Doubler):
    """An upscale model with a megabyte of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Upsample(scale_factor=2), _Weights(2**18))


class _Weights(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count))

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures


def pretend_free(patch: pytest.MonkeyPatch, count: int) -> None:
    from longtake.nodes import host

    patch.setattr(host, "usable_memory_bytes", lambda device: count)


def with_free(estimate: Any, count: int) -> Any:
    return replace(estimate, free_bytes=count)


def test_one_plan_counts_the_generator_and_the_upscaling(bench: Bench) -> None:
    frames = bench.frames()
    larger = upscaled(bench, frames, Heavy())
    estimate = larger.stage_plan.estimate
    assert f"upscaling {byte_size(TILE_BYTES)}" in larger.plan.text
    assert (larger.plan.fits, larger.plan.chunks, larger.plan.frames) == (True, 3, COUNT)
    before = frames.estimate
    grown = estimate._all_weights.total_bytes - before._all_weights.total_bytes
    assert grown == 4 * 2**18
    assert estimate._peak - before._peak == TILE_BYTES - before._peak + before.memory.kv_bytes + (
        before.decoder.state_bytes
    )  # passes, decoding and upscaling take turns, and upscaling takes the most


def test_frames_that_exist_already_are_planned_too(bench: Bench) -> None:
    text = upscaled(bench, torch.rand(2, 32, 32, 3)).plan.text
    assert f"Upscaling {byte_size(TILE_BYTES)}" in text


def test_two_stages_are_in_one_plan(bench: Bench) -> None:
    sharp = sharpened(bench, bench.frames())
    both = upscaled(bench, sharp)
    assert "super-resolution " in both.plan.text and "upscaling " in both.plan.text
    alone = sharp.stage_plan.estimate
    assert both.stage_plan.estimate.beside_bytes >= alone.beside_bytes + 16 * TILE_BYTES


def test_what_does_not_fit_together_is_refused_before_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_free(monkeypatch, TILE_BYTES)
    frames = bench.frames()
    with pytest.raises(BadInput, match=r"decoding and upscaling\).*smaller upscale model"):
        upscaled(bench, frames)
    assert frames.rollout.run.delivered == 0
    pretend_free(monkeypatch, TILE_BYTES - 1)
    with pytest.raises(BadInput, match=r"The upscaling needs .*smaller upscale model"):
        upscaled(bench, torch.rand(2, 32, 32, 3))


def test_on_a_card_the_two_take_turns(bench: Bench) -> None:
    """On a pretended card, which holds either and not both."""
    frames = bench.frames()
    estimate = upscaled(bench, frames, Heavy()).stage_plan.estimate
    stage = replace(estimate.stages[0], takes_turns=True)
    least = max(frames.estimate._needed, stage.needed_bytes)
    tight = with_free(frames.estimate, least).with_stage(frames.estimate.memory, stage)
    assert tight.fits and "The generator and upscaling take turns" in tight.plan.text
    assert not with_free(tight, least - 1).fits


def test_large_pictures_are_planned_in_the_tiles_that_fit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = torch.rand(1, 512, 512, 3)
    for side in (512, 256, 128):
        need = (side // 32) ** 2 * TILE_BYTES
        pretend_free(monkeypatch, need)
        assert f"Upscaling {byte_size(need)}" in upscaled(bench, pictures).plan.text
    pretend_free(monkeypatch, need - 1)
    with pytest.raises(BadInput, match="The upscaling needs"):
        upscaled(bench, pictures)


def test_a_small_picture_claims_no_more_than_it_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    claims: list[int] = []
    monkeypatch.setattr(host, "claim_whole", lambda patcher, working: claims.append(working))
    bench.collect(upscaled(bench, torch.rand(2, 32, 32, 3)))
    assert claims == [TILE_BYTES]


def test_where_upscaling_fails_the_small_take_is_whole(bench: Bench) -> None:
    from longtake.nodes.runtime.session import session

    class Failing(Doubler):
        """Fails at the twelfth picture, in the second chunk."""

        def __call__(self, pictures: Tensor) -> Tensor:
            if len(self.largest) == 11:
                raise OSError("the upscale model is broken")
            return super().__call__(pictures)

    frames = bench.frames()
    with pytest.raises(OSError, match="the upscale model is broken"):
        bench.shown("LongtakePreview", frames=frames, refined=upscaled(bench, frames, Failing()))
    small, large = session.takes._takes.values()
    for take in (small, large):
        take.join()
    assert (small.state, small.summary()["frames"]) == ("done", COUNT)
    assert (large.state, large.summary()["frames"]) == ("error", 9)
