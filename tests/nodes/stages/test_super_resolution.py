"""Super-Resolution (Stream) and its loader: FlashVSR behind any frames, in one run for all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from longtake.errors import BadInput, OutOfMemory
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.tests.support.model.flashvsr import upscaled
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import (
    Counter,
    fail_second_pass,
    flashvsr,
    flashvsr_bench,
    sharpened,
)

COUNT = 33  # of the bench's rollout, in chunks of 9, 12 and 12
LOSSLESS = "mkv (lossless)"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def counter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(bench, monkeypatch)


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


def test_outputs_side_by_side_share_one_run(bench: Bench, counter: Counter) -> None:
    frames = bench.frames()
    sharp = sharpened(bench, frames)
    outputs = [
        ("LongtakePreview", {"frames": frames}),
        ("LongtakePreview", {"frames": sharp}),
        ("LongtakeSaveVideo", {"frames": sharp}),
    ]
    asyncio.run(bench.side_by_side(*outputs))
    assert counter.passes == 3 and len(counter.runs) == 1
    [report] = bench.state.folders["output"].rglob("*report.json")
    facts = json.loads(report.read_text())
    assert (facts["width"], facts["height"], facts["frames"]) == (128, 128, COUNT)


def test_where_a_pass_fails_what_reads_the_small_frames_gets_all_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two outputs of the large frames then fail, by the same error and after the same frames."""
    fail_second_pass(monkeypatch)
    frames = bench.frames()
    sharp = sharpened(bench, frames)
    outputs = [
        bench.side_by_side(("LongtakeSaveVideo", {"frames": shown, "filename_prefix": name}))
        for shown, name in ((sharp, "large"), (frames, "small"), (sharp, "again"))
    ]

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*outputs, return_exceptions=True)

    large, small, again = asyncio.run(all_of_them())
    assert isinstance(large, OutOfMemory) and isinstance(again, OutOfMemory)
    assert "Enlarging failed at frame 21 (The device is full" in caplog.text
    assert not isinstance(small, BaseException)
    [video] = bench.state.folders["output"].glob("small*.mp4")
    with av.open(video) as container:
        assert sum(1 for _ in container.decode(video=0)) == COUNT


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


def cancelled(bench: Bench, counter: Counter, after: int, **inputs: Any) -> Any:
    """A shot whose run is cancelled during pass number `after`; gives its frames."""
    sharp = sharpened(bench, bench.frames(), **inputs)
    counter.passes, counter.cancel_after = 0, after
    with pytest.raises(InterruptProcessingException):
        bench.run("LongtakeSaveVideo", frames=sharp, format=LOSSLESS)
    counter.passes = counter.cancel_after = 0
    return sharp


def session() -> Any:
    """The session, which can be imported under a host only."""
    from longtake.nodes.runtime.session import session as current

    return current


def saved(bench: Bench) -> list[Path]:
    return sorted(bench.state.folders["output"].rglob("*.mkv"))


def pictures_in(file: Path) -> np.ndarray:
    with av.open(file) as container:
        return np.stack([x.to_ndarray(format="gbrp") for x in container.decode(video=0)])


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("after", [1, 2])
def test_run_after_cancel_goes_on_with_the_pass_that_is_missing(
    bench: Bench, counter: Counter, after: int
) -> None:
    sharp = cancelled(bench, counter, after)
    bench.run("LongtakeSaveVideo", frames=sharpened(bench, bench.frames()), format=LOSSLESS)
    assert counter.passes == 3 - after
    [file] = saved(bench)
    again = {"filename_prefix": "whole", "format": LOSSLESS}
    bench.run("LongtakeSaveVideo", frames=sharpened(bench, bench.frames()), **again)
    [whole] = [path for path in saved(bench) if path != file]
    assert counter.passes == 3 - after + 3 and sharp.chunk_count == 3
    assert len(pictures_in(file)) == COUNT
    assert np.array_equal(pictures_in(file), pictures_in(whole))


def test_a_state_on_disk_outlives_the_session(bench: Bench, counter: Counter) -> None:
    whole = bench.collect(sharpened(bench, bench.frames()))
    cancelled(bench, counter, 2, snapshot_passes=1)
    folder = bench.state.folders["output"] / "longtake" / ".rollouts"
    assert len([*folder.glob("*.state.safetensors")]) == 1
    session().reset()
    sharp = sharpened(bench, bench.frames(), snapshot_passes=1)
    [last] = sharp.chunks.read_from(2)
    assert counter.passes == 1
    assert torch.equal(last.frames.movedim(1, -1), whole[29:])
    assert not [*folder.glob("*.state.safetensors")]  # the video is whole


def test_without_a_state_the_passes_before_run_again(bench: Bench, counter: Counter) -> None:
    whole = bench.collect(sharpened(bench, bench.frames()))
    cancelled(bench, counter, 2)
    session().states.clear()
    [last] = sharpened(bench, bench.frames()).chunks.read_from(2)
    assert counter.passes == 3
    assert torch.equal(last.frames.movedim(1, -1), whole[29:])


def test_a_reader_that_needs_more_makes_the_run_begin_earlier(
    bench: Bench, counter: Counter
) -> None:
    whole = bench.collect(sharpened(bench, bench.frames()))
    sharp = cancelled(bench, counter, 2)
    late, early = sharp.chunks.read_from(2), sharp.chunks.read_from(0)
    frames = torch.cat([chunk.frames for chunk in early]).movedim(1, -1)
    assert torch.equal(frames, whole) and counter.passes == 3
    assert torch.equal(next(late).frames.movedim(1, -1), whole[29:])


def test_addresses_tell_all_that_the_frames_are_made_of(bench: Bench) -> None:
    model = flashvsr(bench)
    first = sharpened(bench, bench.frames(), model)
    keys = [first.content_key(index) for index in range(3)]
    assert None not in keys and len({*keys}) == 3 and first.content_key(3) is None
    longer = sharpened(bench, bench.frames(length=45.0), model)
    assert [longer.content_key(index) for index in range(3)][:2] == keys[:2]
    assert longer.content_key(2) != keys[2]  # which ends with frames that stand still
    changes = {"seed": 1, "scale": 2.0, "density": 1.5, "reach": "9", "colors": "none"}
    for other in ({name: value} for name, value in changes.items()):
        assert sharpened(bench, bench.frames(), model, **other).content_key(0) != keys[0]
    assert sharpened(bench, bench.frames(), flashvsr(bench, version="1")).content_key(0) != keys[0]
    pictures = [sharpened(bench, torch.full((5, 32, 32, 3), x), model) for x in (0.1, 0.2)]
    addresses = [frames.content_key(0) for frames in pictures]
    assert None not in addresses and addresses[0] != addresses[1]


def test_live_edits_spare_what_the_finished_passes_have_read(bench: Bench) -> None:
    sharp = sharpened(bench, bench.frames())
    sharp.hold_edits(1)  # 25 frames; chunks of the rollout end at 9, 21 and 33
    queue = sharp.controls.edit_queue
    assert queue.is_early(2) and not queue.is_early(3)
