"""A shot that follows another one while both are made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.vace_files import controlled_shot, vace_bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a VACE module for it."""
    with vace_bench(tmp_path, monkeypatch) as made:
        yield made


def latents(rollout: Any) -> torch.Tensor:
    return torch.cat([chunk.latents for chunk in rollout.chunks])


def decoded(bench: Bench, rollout: Any) -> torch.Tensor:
    """The pictures of a shot, as an IMAGE."""
    vae = bench.run("LongtakeLoadDemoModel")[2]
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    pictures: torch.Tensor = bench.collect(frames)
    return pictures


@pytest.mark.parametrize("masked", [False, True])
def test_a_followed_shot_is_its_finished_pictures(bench: Bench, masked: bool) -> None:
    masks = {"masks": torch.ones(1, 32, 32).tril()} if masked else {}
    live = latents(controlled_shot(bench, control_frames=bench.frames(), **masks))
    pictures = bench.collect(bench.frames())
    assert torch.equal(live, latents(controlled_shot(bench, control_frames=pictures, **masks)))
    other = controlled_shot(bench, control_frames=1 - pictures, **masks)
    assert not torch.allclose(live, latents(other), atol=1e-3)


def test_the_followed_shot_is_made_only_as_far_as_needed(bench: Bench) -> None:
    source = bench.frames()
    rollout = controlled_shot(bench, control_frames=source)
    assert [rollout.spec.key(index) for index in range(3)]  # named before anything is made
    assert source.rollout.run.delivered == 0
    made = []
    for _ in rollout.chunks:
        made.append(source.rollout.run.delivered)
    assert made == [2, 3, 3]


def test_it_goes_on_after_its_last_chunk_was_lost(bench: Bench) -> None:
    first = controlled_shot(bench, control_frames=bench.frames())
    whole = latents(first)
    first.spec.journal._path(first.spec.key(2)).unlink()
    again = controlled_shot(bench, control_frames=bench.frames())
    assert torch.equal(latents(again), whole) and again.resumed_from == 2


def test_both_shots_are_shown_while_they_are_made(bench: Bench) -> None:
    """Readers of both in step: each gets what it gets alone."""
    source = bench.frames()
    rollout = controlled_shot(bench, control_frames=source)
    vae = bench.run("LongtakeLoadDemoModel")[2]
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)

    async def collected() -> list[Any]:
        nodes = [("LongtakeCollect", {"stream": stream, "collect": "images"})
                 for stream in (source, frames)]  # fmt: skip
        return await bench.side_by_side(*nodes)

    import asyncio

    (ours, *_), (followed, *_) = asyncio.run(collected())
    assert torch.equal(ours, bench.collect(bench.frames()))
    assert torch.equal(followed, decoded(bench, controlled_shot(bench, control_frames=ours)))


def test_the_followed_shot_is_let_go_when_production_ends(bench: Bench) -> None:
    source = bench.frames()
    chunks = iter(controlled_shot(bench, control_frames=source).chunks)
    next(chunks)
    journal, name = source.rollout.spec.journal, source.rollout.id
    with pytest.raises(BadInput):
        journal.lock(name)  # it is in the making
    del chunks
    journal.lock(name).release()


def test_a_change_while_it_runs_is_refused_in_a_sentence(bench: Bench) -> None:
    source = bench.frames()
    rollout = controlled_shot(bench, control_frames=source)
    source.controls.set_prompt("a blue ball")
    with pytest.raises(BadInput, match="was changed while it ran; keep the change"):
        latents(rollout)


def test_a_shot_without_an_end_is_refused_in_a_sentence(bench: Bench) -> None:
    with pytest.raises(BadInput, match="runs until it is stopped; give it a length"):
        controlled_shot(bench, control_frames=bench.frames(length=0.0))


def test_a_dry_run_is_planned_with_and_not_followed(bench: Bench) -> None:
    source = bench.frames(plan_only=True)
    rollout = controlled_shot(bench, control_frames=source)
    assert rollout.plan.frames == 33
    with pytest.raises(BadInput, match="is a dry run, which makes no pictures; switch off dry run"):
        latents(rollout)
