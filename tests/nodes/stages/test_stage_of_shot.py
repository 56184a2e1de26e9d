"""A stage and its base are one shot: one seed, and after an edit, a fork, a rewind or a cancel
the frames that FlashVSR makes of the finished shot, bit for bit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.tests.support.model.flashvsr import upscaled
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import flashvsr_bench, sharpened
from longtake.tests.support.nodes.steps import ask_at

TEXT = "0: a red ball"
SHOT = {"text": TEXT, "length": 57.0, "seed": 3}  # chunks of 9 and then 12 frames


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


def both(bench: Bench, frames: Any, **inputs: Any) -> tuple[Tensor, Tensor]:
    """The small and the large frames of one run."""
    collect = [
        ("LongtakeCollect", {"stream": stream, "collect": "images"})
        for stream in (frames, sharpened(bench, frames, **inputs))
    ]
    (small, *_), (large, *_) = asyncio.run(bench.side_by_side(*collect))
    return small, large


def forked(bench: Bench, action: str, **inputs: Any) -> Any:
    rollout, vae = bench.rollout(**SHOT)
    [other] = bench.run("LongtakeEditRollout", action=action, rollout=rollout, **inputs)
    return bench.run("LongtakeVAEDecode", rollout=other, vae=vae)[0]


def made_before(frame: int) -> int:
    """How many large frames are made of the small ones before `frame`."""
    return 21 + (frame - 25) // 8 * 8


def count_passes(patch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the passes that run from now on."""
    from longtake.nodes.stages.sharp_run import SharpRun

    passes, make = list[int](), SharpRun._make

    def counted(run: Any) -> Any:
        passes.append(run._upscaler.state.number)
        return make(run)

    patch.setattr(SharpRun, "_make", counted)
    return passes


@pytest.mark.parametrize(("inputs", "seed"), [({}, 3), ({"seed": 0}, 0)])
def test_the_noise_follows_the_shots_seed_unless_the_node_has_one(
    bench: Bench, inputs: dict[str, int], seed: int
) -> None:
    small, large = both(bench, bench.frames(**SHOT), **inputs)
    assert torch.equal(large, upscaled(small, seed=seed))
    assert not torch.equal(large, upscaled(small, seed=3 - seed))


def test_pictures_have_no_seed_and_take_number_0(bench: Bench) -> None:
    pictures = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(bench.collect(sharpened(bench, pictures)), upscaled(pictures, seed=0))


def test_a_fork_with_another_seed_changes_the_noise_where_it_begins(bench: Bench) -> None:
    source = bench.frames(**SHOT)
    _, before = both(bench, source)
    fork = forked(bench, "fork", at=2.1, new_seed=9)
    small, large = both(bench, fork)
    # the fork begins at the chunk with second 2.1, whose first latent frame is number 9
    assert torch.equal(large, upscaled(small, seed=lambda latent: 3 if latent < 9 else 9))
    assert not torch.equal(large, upscaled(small, seed=3))
    shared = made_before(33)
    assert torch.equal(large[:shared], before[:shared]) and shared == 29
    assert not torch.equal(large[37:], before[37:])


def test_both_parts_of_a_spliced_video_have_their_own_seed(bench: Bench) -> None:
    first, second = (bench.frames(seed=seed) for seed in (4, 5))
    [spliced] = bench.run(
        "LongtakeSpliceRollouts", first=first, second=second, overlap=5, method="cross-fade"
    )
    assert [spliced.seed_of(frame) for frame in (0, 27, 28, 60, 99)] == [4, 4, 5, 5, 5]


def test_between_two_frames_the_seed_is_the_next_ones(bench: Bench) -> None:
    from longtake.nodes.frames.interpolate import InterpolatedFrames

    fork = forked(bench, "fork", at=1.3, new_seed=9)
    starts = [frame for frame in range(57) if fork.seed_of(frame) == 9]
    assert starts[0] == 21
    faster = InterpolatedFrames(fork, lambda pictures: pictures, 3)
    assert [faster.seed_of(frame) for frame in (60, 61, 63)] == [3, 9, 9]


@pytest.mark.parametrize("seed", [None, 11])
def test_a_live_edit_is_in_the_large_frames_as_if_they_were_enlarged_afterwards(
    bench: Bench, seed: int | None
) -> None:
    frames = bench.frames(**SHOT)

    def edit() -> None:
        if seed is not None:
            frames.controls.edit_queue.hold_seed(seed)
        frames.controls.set_prompt("a blue ball")

    ask_at(bench, 2, edit)
    small, large = both(bench, frames)
    [done] = frames.controls.edits
    assert (done.status, done.seed) == ("applied", seed)
    from_latent = frames.rollout.span(frames.chunk_of(done.first_frame)).first
    expected = upscaled(small, seed=lambda i: 3 if i < from_latent or seed is None else seed)
    assert torch.equal(large, expected)
    bench.state.start_prompt()  # the workflow alone is still the unedited shot
    plain, sharp = both(bench, bench.frames(**SHOT))
    assert torch.equal(sharp, upscaled(plain, seed=3)) and not torch.equal(plain, small)
    shared = made_before(done.first_frame)
    assert torch.equal(sharp[:shared], large[:shared]) and shared >= 29
    assert not torch.equal(sharp[shared + 8 :], large[shared + 8 :])


def test_a_kept_edit_goes_on_after_a_cancel_with_the_pass_that_is_missing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = count_passes(monkeypatch)
    frames = bench.frames(**SHOT)
    ask_at(bench, 0, lambda: frames.controls.set_prompt("a blue ball"))
    reader = iter(sharpened(bench, frames).chunks)
    first = [next(reader).frames for _ in range(3)]
    bench.state.interrupt()
    with pytest.raises(InterruptProcessingException):
        next(reader)
    [edit] = frames.controls.edits
    del reader
    bench.state.start_prompt()
    kept = bench.frames(**SHOT | {"text": f"{TEXT}\n{edit.line}"})
    passes.clear()
    sharp = sharpened(bench, kept)
    last = [chunk.frames for chunk in sharp.chunks.read_from(3)]
    assert passes == [3, 4, 5]
    whole = torch.cat([*first, *last]).movedim(1, -1)
    assert torch.equal(whole, upscaled(bench.collect(kept), seed=3))


@pytest.mark.parametrize("action", ["rewind", "continue"])
def test_a_rewound_or_longer_shot_goes_on_from_the_passes_it_shares(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    passes = count_passes(monkeypatch)
    reader = iter(sharpened(bench, bench.frames(**SHOT)).chunks)
    first = [next(reader).frames for _ in range(2)]
    bench.state.interrupt()
    with pytest.raises(InterruptProcessingException):
        next(reader)
    del reader
    bench.state.start_prompt()
    other = forked(bench, action, **({"at": 2.1} if action == "rewind" else {"more": 0.75}))
    passes.clear()
    sharp = sharpened(bench, other)
    last = [chunk.frames for chunk in sharp.chunks.read_from(2)]
    assert passes[0] == 2 and other.frame_total != 57
    whole = torch.cat([*first, *last]).movedim(1, -1)
    assert torch.equal(whole, upscaled(bench.collect(other), seed=3))
