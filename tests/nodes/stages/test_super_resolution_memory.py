"""FlashVSR in the host's memory: one plan and one claim with the generator, and what it frees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput, OutOfMemory
from longtake.model.flashvsr.memory import PassMemory
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import flashvsr, flashvsr_bench, sharpened
from longtake.units import byte_size

MB = 2**20


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


def pretend_free(patch: pytest.MonkeyPatch, count: int) -> None:
    from longtake.nodes import host

    patch.setattr(host, "usable_memory_bytes", lambda device: count)


def claims_of(patch: pytest.MonkeyPatch) -> list[tuple[list[Any], int]]:
    """The patchers and the bytes of every claim from now on."""
    from longtake.nodes import host

    calls: list[tuple[list[Any], int]] = []
    claim = host.claim

    def note(patchers: Any, planned_bytes: int) -> None:
        calls.append(([*patchers], planned_bytes))
        claim(patchers, planned_bytes)

    patch.setattr(host, "claim", note)
    return calls


def test_the_plan_counts_the_generator_and_the_super_resolution(bench: Bench) -> None:
    frames = bench.frames()
    sharp = sharpened(bench, frames)
    taken = sharp.memory.state_bytes + sharp.memory.working_bytes
    assert f"super-resolution {byte_size(taken)}" in sharp.plan.text
    assert sharp.plan.fits and sharp.plan.chunks == 3
    alone = sharpened(bench, torch.rand(5, 32, 32, 3)).plan
    assert alone.text.startswith("5 frames of 32x32") and "Super-resolution" in alone.text


def test_what_does_not_fit_is_refused_before_anything_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, model = bench.frames(), flashvsr(bench)
    memory = sharpened(bench, frames, model).memory
    short = memory.state_bytes + memory.working_bytes - 1
    pretend_free(monkeypatch, short)
    with pytest.raises(BadInput, match=r"super-resolution needs .* lower scale"):
        sharpened(bench, torch.rand(5, 32, 32, 3), model)
    rollout, vae = bench.rollout()
    small = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)[0]
    with pytest.raises(BadInput, match=r"passes, decoding and super-resolution\).*lower scale"):
        sharpened(bench, small, model)


def test_the_generator_claims_the_super_resolution_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, model = bench.frames(length=45.0), flashvsr(bench)
    sharp = sharpened(bench, frames, model)
    calls = claims_of(monkeypatch)
    bench.collect(sharp)
    generator = [call for call in calls if frames.rollout.claim.model in call[0]]
    assert len(generator) == 4  # chunks; the first pass follows the third
    for patchers, planned in generator:
        assert all(part in patchers for part in model.models)
        assert planned >= sharp.memory.working_bytes
    first, last = generator[0][1], generator[-1][1]
    assert first - last >= sharp.memory.state_bytes  # which is there after the first pass


def test_they_are_claimed_in_turns_where_both_do_not_fit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a pretended card, which holds a pass of either and not what both keep."""
    frames, model = bench.frames(), flashvsr(bench)
    from longtake.nodes.stages import sharp_plan

    memory = sharpened(bench, frames, model).memory
    generator = frames.estimate
    least = memory.state_bytes + memory.working_bytes + model.weights.min_bytes
    bytes_of_both = memory.state_bytes, memory.working_bytes
    stage = sharp_plan.Stage("super-resolution", *bytes_of_both, model.weights, True, "lower scale")
    import dataclasses

    tight = dataclasses.replace(generator, free_bytes=least).with_stage(generator.memory, stage)
    assert tight.fits and tight.is_tight and "take turns" in tight.plan.text
    short = dataclasses.replace(tight, free_bytes=least - 1)
    assert not short.fits and "for super-resolution" in short.plan.text


def test_the_state_moves_to_main_memory_when_the_host_asks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a pretended card: the host's device is told apart by its index."""
    from longtake.nodes.stages import sharp_run

    whole = bench.collect(sharpened(bench, bench.frames()))
    sizes: list[tuple[int, int]] = []
    make = sharp_run.SharpRun._make

    def made(run: Any) -> Any:
        run.memory.load_device = torch.device("cpu", 0)
        chunk = make(run)
        before = run.memory.loaded_size()
        assert run.memory.partially_unload(run.memory.offload_device, 1) == run.memory.model_size()
        sizes.append((before, run.memory.loaded_size()))
        return chunk

    monkeypatch.setattr(sharp_run.SharpRun, "_make", made)
    sharp = sharpened(bench, bench.frames())
    assert torch.equal(bench.collect(sharp), whole)
    assert [after for _, after in sizes] == [0, 0, 0]
    assert all(before >= sharp.memory.state_bytes for before, _ in sizes)


def test_without_a_card_nothing_is_freed(bench: Bench) -> None:
    sharp = sharpened(bench, bench.frames())
    reader = iter(sharp.chunks)
    next(reader)
    memory = sharp._run().memory
    size = memory.loaded_size()
    assert memory.partially_unload(memory.offload_device, 1) == 0
    assert memory.loaded_size() == size >= sharp.memory.state_bytes


def test_tiles_are_those_that_were_set(bench: Bench) -> None:
    pictures, model = torch.rand(2, 32, 48, 3), flashvsr(bench)
    tiled = sharpened(bench, pictures, model, scale=8.0, tile=300)
    assert [tile.left for tile in tiled.tiling.tiles] == [0, 128]
    assert bench.collect(tiled).shape == (2, 256, 384, 3)
    with pytest.raises(BadInput, match="tile is 128, less than two blocks"):
        sharpened(bench, pictures, model, tile=128)


def test_tiles_are_chosen_where_the_whole_picture_does_not_fit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a memory of one byte for each pixel of the largest tile, twice."""
    from longtake.nodes.stages import sharp_plan

    def by_area(sizes: Any, tiling: Any, device: Any, rule: Any) -> PassMemory:
        areas = tuple(tile.width * tile.height for tile in tiling.tiles)
        return PassMemory(max(areas), max(areas), areas)

    pictures, model = torch.rand(2, 32, 48, 3), flashvsr(bench)
    monkeypatch.setattr(sharp_plan, "pass_memory", by_area)
    for free, width in ((384 * 256, 384), (384 * 256 - 1, 256), (256 * 256, 256)):
        pretend_free(monkeypatch, 2 * free)
        sharp = sharpened(bench, pictures, model, scale=8.0)
        assert sharp.tiling.tiles[0].width == width and sharp.plan.fits
    pretend_free(monkeypatch, 2 * 256 * 256 - 1)
    with pytest.raises(BadInput, match="lower scale"):
        sharpened(bench, pictures, model, scale=8.0)


def test_where_memory_runs_out_the_node_says_what_takes_less(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.stages.sharp_run import Upscaler

    def full(upscaler: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    sharp = sharpened(bench, bench.frames())
    monkeypatch.setattr(Upscaler, "step", full)
    with pytest.raises(OutOfMemory, match=r"while frames from 0 on .* a smaller tile in Super"):
        bench.collect(sharp)
