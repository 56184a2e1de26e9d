"""Streaming Preview with `refined`: the same shot twice, whole also where a pass fails."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput, OutOfMemory
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.stream.preview.take import Take
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import fail_second_pass, flashvsr_bench, sharpened
from longtake.tests.support.nodes.upscaling import Doubler, upscaled

COUNT = 33


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


def takes() -> list[Take]:
    """Every take there is, oldest first, once all is encoded."""
    from longtake.nodes.runtime.session import session

    kept = list(session.takes._takes.values())
    for take in kept:
        take.join()
    return kept


def test_the_take_names_the_one_with_the_large_frames(bench: Bench) -> None:
    frames = bench.frames()
    shown = bench.shown("LongtakePreview", frames=frames, refined=sharpened(bench, frames))
    small, large = takes()
    assert shown["longtake"] == [{"take": small.token}]
    assert small.summary()["refined"] == large.token and small.summary()["refines"] is None
    assert large.summary()["refines"] == small.token and large.summary()["refined"] is None
    assert [take.state for take in (small, large)] == ["done", "done"]
    assert [take.summary()["frames"] for take in (small, large)] == [COUNT, COUNT]
    assert (small.shot.width, large.shot.width) == (32, 128)


def test_a_tiny_decoder_shows_a_shot_whose_file_a_full_one_decodes(bench: Bench) -> None:
    """Two decoders of one rollout, which is made once."""
    rollout, vae = bench.rollout()
    tiny, full = (bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)[0] for _ in range(2))
    made, produce = list[int](), rollout.run._keep

    def kept(chunk: Any, to_disk: Any) -> None:
        made.append(chunk.index)
        produce(chunk, to_disk)

    rollout.run._keep = kept
    bench.shown("LongtakePreview", frames=tiny, refined=full)
    first, second = takes()
    assert first.summary()["refined"] == second.token
    assert [take.summary()["frames"] for take in (first, second)] == [COUNT, COUNT]
    assert made == [*range(rollout.chunk_count)]


def test_small_frames_are_shown_before_the_pass_that_reads_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.stages.sharp_run import SharpRun

    shown, seen = list[int](), list[tuple[int, int]]()
    show, make = Take.show, SharpRun._make

    def counted(take: Take, frames: torch.Tensor, *others: Any) -> None:
        if take.origin.refines is None:
            shown.append(len(frames))
        show(take, frames, *others)

    def watched(run: Any) -> Any:
        seen.append((sum(shown), run._read))
        return make(run)

    monkeypatch.setattr(Take, "show", counted)
    monkeypatch.setattr(SharpRun, "_make", watched)
    frames = bench.frames()
    bench.shown("LongtakePreview", frames=frames, refined=sharpened(bench, frames))
    assert seen == [(33, 33)] * 3  # the first pass wants 25 frames: three chunks


def test_the_refined_take_alone_has_the_times_of_both(bench: Bench) -> None:
    """The status strip takes them from there: tests/browser/module_cases.mjs."""
    frames = bench.frames()
    bench.shown("LongtakePreview", frames=frames, refined=upscaled(bench, frames))
    small, large = (take.summary()["stats"] for take in takes())
    assert small["generator_factor"] > 0 and small["stage_factor"] is None
    assert large["generator_factor"] > 0 and large["stage_factor"] > 0


@pytest.mark.parametrize("saved_first", [True, False])
def test_small_frames_are_shown_before_they_are_enlarged_whichever_output_began(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, saved_first: bool
) -> None:
    shown, seen = list[int](), list[int]()
    show = Take.show

    def counted(take: Take, frames: torch.Tensor, *others: Any) -> None:
        if take.origin.refines is None:
            shown.append(len(frames))
        show(take, frames, *others)

    monkeypatch.setattr(Take, "show", counted)
    model = Doubler()
    double = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda x: (seen.append(len(shown)), double(x))[1])
    frames = bench.frames()
    larger = upscaled(bench, frames, model)
    outputs = [
        ("LongtakeSaveVideo", {"frames": larger}),
        ("LongtakePreview", {"frames": frames, "refined": larger}),
    ]
    asyncio.run(bench.side_by_side(*(outputs if saved_first else outputs[::-1])))
    assert seen == [1] * 9 + [2] * 12 + [3] * 12  # a picture at a time, of 9, 12 and 12 frames


@pytest.mark.some_cases(1)
def test_both_resume_and_neither_is_taken_for_the_other(bench: Bench) -> None:
    frames = bench.frames()
    sharp = sharpened(bench, frames)
    for _ in range(2):
        bench.shown("LongtakePreview", frames=frames, refined=sharp)
        small, large = takes()  # encoded: the second run's takes begin with the first one's frames
    assert small.first_new == 2 and large.first_new == 2
    assert [take.summary()["frames"] for take in (small, large)] == [COUNT, COUNT]
    assert small.summary()["live"] != large.summary()["live"]


@pytest.mark.some_cases(1)
def test_a_page_gets_both_after_a_reload(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from longtake.nodes.runtime.session import session

    server = type(sys.modules["server"].PromptServer.instance)
    monkeypatch.setattr(server, "client_id", "page")
    frames = bench.frames()
    for _ in range(2):
        bench.shown("LongtakePreview", frames=frames, refined=sharpened(bench, frames, seed=1))
        tokens = [take.token for take in takes()]
    assert [take.token for take in session.takes.of_client("page")] == tokens and len(tokens) == 2
    bench.shown("LongtakePreview", frames=bench.frames(seed=9))  # no refined frames this time
    newest = session.takes.of_client("page")
    assert newest[-1] is takes()[-1] and newest[0].origin.refines


def test_where_a_pass_fails_the_small_frames_are_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_second_pass(monkeypatch)
    frames = bench.frames()
    with pytest.raises(OutOfMemory, match="choose smaller tiles"):
        bench.shown("LongtakePreview", frames=frames, refined=sharpened(bench, frames))
    small, large = takes()
    assert (small.state, small.summary()["frames"]) == ("done", COUNT)
    assert (large.state, large.summary()["frames"]) == ("error", 21)
    assert large.summary()["message"] == "The device is full; choose smaller tiles."


def test_where_the_rollout_fails_both_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = bench.frames()
    sharp = sharpened(bench, frames)

    def cancel(event: Any) -> None:
        bench.state.interrupt()

    monkeypatch.setattr(bench.state, "listener", cancel)
    with pytest.raises(InterruptProcessingException):
        bench.shown("LongtakePreview", frames=frames, refined=sharp)
    assert [take.state for take in takes()] == ["interrupted", "interrupted"]


@pytest.mark.parametrize("count", [32, 34])
def test_another_shot_is_no_refinement(bench: Bench, count: int) -> None:
    with pytest.raises(BadInput, match=f"33 frames at 16 .*, but refined has {count} frames"):
        bench.shown("LongtakePreview", frames=bench.frames(), refined=torch.rand(count, 64, 64, 3))
    assert not takes()
