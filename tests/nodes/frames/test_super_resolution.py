"""Super-Resolution (Stream) and its loader: FlashVSR behind any frames, in one run for all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.model.flashvsr.upscaler import Upscaler
from longtake.tests.support.model.flashvsr import store_parts, upscaled
from longtake.tests.support.node_bench import Bench, node_bench, tiny_demo

FILE = "FlashVSR/diffusion_pytorch_model_streaming_dmd.safetensors"
COUNT = 33  # of the bench's rollout, in chunks of 9, 12 and 12


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    demo = tmp_path / "demo"
    demo.mkdir()
    store_parts(tmp_path / "models" / "diffusion_models" / "FlashVSR")
    monkeypatch.chdir(tmp_path)
    with node_bench(tmp_path / "out", tiny_demo(demo), monkeypatch) as made:
        yield made


def flashvsr(bench: Bench, **inputs: Any) -> Any:
    return bench.run("LongtakeLoadFlashVSR", model_name=FILE, **inputs)[0]


def sharpened(bench: Bench, frames: Any, model: Any = None, **inputs: Any) -> Any:
    model = model or flashvsr(bench)
    return bench.run("LongtakeSuperResolution", frames=frames, flashvsr=model, **inputs)[0]


def test_frames_of_a_rollout_are_enlarged_while_they_come(bench: Bench) -> None:
    frames = bench.frames()
    sharp = sharpened(bench, frames)
    assert (sharp.width, sharp.height, sharp.frame_total) == (128, 128, COUNT)
    chunks = [*sharp.chunks]
    assert [len(chunk.frames) for chunk in chunks] == [21, 8, 4]
    assert [(chunk.index, chunk.first_frame) for chunk in chunks] == [(0, 0), (1, 21), (2, 29)]
    assert sharp.chunk_count == len(chunks) == sharp.plan.chunks
    assert bench.bar("LongtakeSuperResolution") == [1, 2, 3]
    made = torch.cat([chunk.frames for chunk in chunks]).movedim(1, -1)
    torch.testing.assert_close(made, upscaled(bench.collect(frames)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("version", "seed"), [("1.1", 0), ("1", 0), ("1.1", 7)])
def test_pictures_version_and_seed(bench: Bench, version: str, seed: int) -> None:
    pictures = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    sharp = sharpened(bench, pictures, flashvsr(bench, version=version), seed=seed)
    made = bench.collect(sharp)
    assert made.shape == (5, 128, 128, 3)
    reference = upscaled(pictures, causal=version == "1.1", seed=seed)
    torch.testing.assert_close(made, reference, rtol=0, atol=1e-5)


def test_outputs_side_by_side_share_one_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    step = Upscaler.step
    monkeypatch.setattr(Upscaler, "step", lambda self: passes.append(self) or step(self))
    frames = bench.frames()
    sharp = sharpened(bench, frames)
    outputs = [
        ("LongtakePreview", {"frames": frames}),
        ("LongtakePreview", {"frames": sharp}),
        ("LongtakeSaveVideo", {"frames": sharp}),
    ]
    asyncio.run(bench.side_by_side(*outputs))
    assert len(passes) == 3 and len({*passes}) == 1
    [report] = bench.state.folders["output"].rglob("*report.json")
    facts = json.loads(report.read_text())
    assert (facts["width"], facts["height"], facts["frames"]) == (128, 128, COUNT)


def test_a_second_reader_gets_the_same_frames(bench: Bench) -> None:
    sharp = sharpened(bench, bench.frames())
    first, second = (torch.cat([chunk.frames for chunk in sharp.chunks]) for _ in range(2))
    assert torch.equal(first, second)
    late = [chunk.first_frame for chunk in sharp.chunks.read_from(1)]
    assert late == [21, 29]


def test_cancel_between_two_passes_and_run_again(bench: Bench) -> None:
    frames = bench.frames()
    sharp = sharpened(bench, frames)
    whole = bench.collect(sharp)
    reader = iter(sharp.chunks)
    next(reader)
    bench.state.interrupt()
    with pytest.raises(InterruptProcessingException):
        next(reader)
    assert torch.equal(bench.collect(sharp), whole)


def test_the_host_is_told_of_all_networks(bench: Bench) -> None:
    frames, model = bench.frames(), flashvsr(bench)
    sharp = sharpened(bench, frames, model)
    assert [m for m in sharp.get_models() if m not in frames.get_models()] == model.models
    assert sharp.memory.state_bytes > 0 and sharp.memory.working_bytes > 0


def test_chunks_carry_the_prompt_of_their_first_frame(bench: Bench) -> None:
    frames = bench.frames(text="0: a red ball\n1: a blue ball")
    of_frame = {
        chunk.first_frame + i: chunk.prompt
        for chunk in frames.chunks
        for i in range(len(chunk.frames))
    }
    assert len({*of_frame.values()}) == 2
    for chunk in sharpened(bench, frames).chunks:
        assert chunk.prompt == of_frame[chunk.first_frame]


def test_sizes_that_no_video_has_are_refused(bench: Bench) -> None:
    with pytest.raises(BadInput, match="more than the 16384 pixels"):
        sharpened(bench, torch.zeros(1, 8, 3000, 3), scale=8.0)


def test_a_missing_file_is_named(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "diffusion_models" / "FlashVSR"
    (folder / "TCDecoder.ckpt").rename(folder.parent / "decoder.ckpt")
    with pytest.raises(BadInput, match=r"incomplete.*TCDecoder.ckpt"):
        flashvsr(bench)
    assert flashvsr(bench, decoder="decoder.ckpt").sizes.widths == (8, 6, 4, 3)
