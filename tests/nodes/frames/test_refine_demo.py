"""Refine Demo (Stream): the second stage behind a rollout, in step with readers of its source."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.headless.events import ChunkDone
from longtake.model.preset import DEMO_FOLDER
from longtake.model.refiner.file import load_refiner
from longtake.model.refiner.frames import refine
from longtake.model.refiner.network import Refiner, RefinerConfig
from longtake.model.vae.memory_order import order_weights
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import randomise

SMALL = RefinerConfig(width=8, fine_width=4, blocks=3)


@pytest.fixture
def refiner(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Refiner]:
    """Small random weights in the place of the shipped ones."""
    from longtake.nodes.frames import refine_demo

    network = Refiner(SMALL)
    randomise(network, 5)
    save_file(network.state_dict(), tmp_path / "refiner.safetensors")
    monkeypatch.setattr(refine_demo, "DEMO_FOLDER", tmp_path)
    order_weights(network)  # as the node does; it changes the rounding
    yield network.eval()


def refined(bench: Bench, frames: Any, **inputs: Any) -> Any:
    return bench.run("LongtakeRefineDemo", frames=frames, **inputs)[0]


def test_chunk_by_chunk_equals_the_whole(bench: Bench, refiner: Refiner) -> None:
    frames = bench.frames()
    larger = refined(bench, frames)
    assert (larger.width, larger.height) == (128, 128)
    small = [*frames.chunks]
    whole, _ = refine(refiner, torch.cat([chunk.frames for chunk in small]), 0, refiner.start())
    chunks = [*larger.chunks]
    assert torch.equal(torch.cat([chunk.frames for chunk in chunks]), whole)
    assert [(c.index, c.first_frame) for c in chunks] == [(c.index, c.first_frame) for c in small]
    assert larger.frame_total == frames.frame_total and larger.chunk_count == frames.chunk_count


def pictures(count: int) -> torch.Tensor:
    """An IMAGE, which comes in chunks of 16."""
    return torch.rand(count, 16, 16, 3, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("first", [1, 5])
def test_a_reader_that_begins_later_reads_the_same_bits(
    bench: Bench, refiner: Refiner, first: int
) -> None:
    larger = refined(bench, pictures(100))
    expected = [chunk.frames for chunk in larger.chunks][first:]
    late = [chunk.frames for chunk in larger.chunks.read_from(first)]
    assert all(map(torch.equal, late, expected)) and len(late) == len(expected)


def test_a_late_reader_in_step_spoils_nobody_elses_frames(bench: Bench, refiner: Refiner) -> None:
    larger = refined(bench, pictures(100))
    expected = [chunk.frames for chunk in larger.chunks]
    last = len(expected) - 1

    async def read(first: int) -> list[torch.Tensor]:
        reader = larger.chunks.subscribe(first)
        return [chunk.frames async for chunk in reader]

    async def together() -> list[list[torch.Tensor]]:
        return await asyncio.gather(read(last), read(0))

    late, whole = asyncio.run(together())
    assert all(map(torch.equal, whole, expected)) and len(whole) == len(expected)
    assert torch.equal(late[0], expected[last]) and len(late) == 1


def test_small_and_large_outputs_make_each_chunk_once(bench: Bench, refiner: Refiner) -> None:
    frames = bench.frames()
    larger = refined(bench, frames)
    preview = {"frames": frames, "refined": larger}
    asyncio.run(
        bench.side_by_side(("LongtakePreview", preview), ("LongtakeSaveVideo", {"frames": larger}))
    )
    assert [event.chunk for event in bench.events if isinstance(event, ChunkDone)] == [0, 1, 2]
    assert bench.bar("LongtakeRefineDemo") == [1, 2, 3]
    [report] = bench.state.folders["output"].rglob("*report.json")
    facts = json.loads(report.read_text())
    assert (facts["width"], facts["height"], facts["frames"]) == (128, 128, 33)


def test_noise_changes_the_frames_and_their_address(bench: Bench, refiner: Refiner) -> None:
    plain, noisy, again = (refined(bench, bench.frames(), noise_level=s) for s in (0, 0.2, 0.2))
    without, with_noise, once_more = (
        torch.cat([chunk.frames for chunk in larger.chunks]) for larger in (plain, noisy, again)
    )
    assert torch.equal(with_noise, once_more) and not torch.equal(without, with_noise)
    assert plain.content_key(1) != noisy.content_key(1) == again.content_key(1)


def test_the_plan_counts_the_second_stage(bench: Bench, refiner: Refiner) -> None:
    frames = bench.frames()
    larger = refined(bench, frames)
    assert "super-resolution" in larger.plan.text and "super-resolution" not in frames.plan.text
    assert larger.plan.frames == frames.plan.frames


def test_frames_that_would_become_too_large_are_refused(bench: Bench, refiner: Refiner) -> None:
    with pytest.raises(BadInput, match="connect smaller frames"):
        refined(bench, torch.zeros(1, 8, 8200, 3))


def test_the_shipped_weights_load_and_tell_their_sizes() -> None:
    refiner = load_refiner(DEMO_FOLDER / "refiner.safetensors")
    assert refiner.config == RefinerConfig()
    assert not refiner.training
