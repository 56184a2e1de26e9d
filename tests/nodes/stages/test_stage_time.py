"""The time of a stage beside its generator's: measured apart, reported, and told before a run.

On a pretended clock, which only moves while the generator makes a chunk or the stage a picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.stream.work_meter import WorkMeter
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import flashvsr_bench, sharpened
from longtake.tests.support.nodes.upscaling import Doubler, upscaled

CHUNK_S, PICTURE_S, PASS_S = 0.25, 1.0, 3.0
GENERATOR = 2 * CHUNK_S / (24 / 16)  # two chunks of 12 frames after the first
UPSCALING = 24 * PICTURE_S / (24 / 16)
SHARPENING = 2 * PASS_S / (12 / 16)  # passes of 8 and 4 frames after the first


class Clock:
    """Seconds, which a test moves on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def slowed(self, work: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        """`work`, which takes that long."""

        def slow(*given: Any) -> Any:
            self.now += seconds
            return work(*given)

        return slow


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def clock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all meters; chunks are decoded in turn, on the same thread."""
    from longtake.nodes.frames import decoded
    from longtake.nodes.stages import sharp_run, stage_frames

    clock = Clock()
    for module in (decoded, stage_frames):
        monkeypatch.setattr(module, "WorkMeter", lambda fps, *_: WorkMeter(fps, clock))
    monkeypatch.setattr(decoded.HostFrames, "_open_side", lambda *_: None)
    prepare = decoded.HostFrames.prepare
    monkeypatch.setattr(decoded.HostFrames, "prepare", clock.slowed(prepare, CHUNK_S))
    step = sharp_run.Upscaler.step
    monkeypatch.setattr(sharp_run.Upscaler, "step", clock.slowed(step, PASS_S))
    return clock


class Slow(Doubler):
    """An upscale model that takes a second for a picture."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.slow = clock.slowed(partial(Doubler.__call__, self), PICTURE_S)

    def __call__(self, pictures: Tensor) -> Tensor:
        larger: Tensor = self.slow(pictures)
        return larger


@pytest.fixture
def status(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[str | None, str]:
    """The last text under each node."""
    from longtake.nodes import host

    texts: dict[str | None, str] = {}
    monkeypatch.setattr(host, "show_status", lambda node, text, *_: texts.update({node: text}))
    return texts


def test_the_report_and_the_player_have_the_time_of_both(bench: Bench, clock: Clock) -> None:
    frames = bench.frames()
    larger = upscaled(bench, frames, Slow(clock))
    bench.run("LongtakeSaveVideo", frames=larger)
    [file] = bench.state.folders["output"].rglob("*report.json")
    report = json.loads(file.read_text())
    assert (report["generator_factor"], report["stage_factor"]) == (GENERATOR, UPSCALING)
    stats = larger.stats()
    assert (stats.generator_factor, stats.stage_factor) == (GENERATOR, UPSCALING)
    assert (frames.stats().generator_factor, frames.stats().stage_factor) == (GENERATOR, None)


def test_stages_in_a_row_are_one_sum(bench: Bench, clock: Clock) -> None:
    both = upscaled(bench, sharpened(bench, bench.frames()), Slow(clock))
    bench.collect(both)
    expected = SHARPENING + 12 * PICTURE_S / (12 / 16)
    assert both.report([]).stage_factor == both.stats().stage_factor == expected


def test_a_comparison_has_the_time_of_every_stage_once(bench: Bench, clock: Clock) -> None:
    """The shot beside its own sharpened and enlarged one, in whichever order."""
    frames = bench.frames()
    sharp = sharpened(bench, frames)
    both = upscaled(bench, sharp, Slow(clock))
    [compared] = bench.run(
        "LongtakeCompareRollouts", frames_a=frames, frames_b=both, frames_c=sharp, layout="grid"
    )
    assert compared.report([]).stage_factor is None
    bench.collect(compared)
    expected = both.stats().stage_factor
    assert compared.report([]).stage_factor == compared.stats().stage_factor == expected > 0
    [plain] = bench.run("LongtakeCompareRollouts", frames_a=frames, frames_b=bench.frames(seed=3))
    bench.collect(plain)
    assert plain.report([]).stage_factor is None


def test_a_splice_has_the_time_of_the_stage_behind_one_of_its_shots(
    bench: Bench, clock: Clock
) -> None:
    plain, larger = bench.frames(width=64, height=64), upscaled(bench, bench.frames(), Slow(clock))
    [spliced] = bench.run("LongtakeSpliceRollouts", first=plain, second=larger)
    bench.collect(spliced)
    assert spliced.report([]).stage_factor == larger.stats().stage_factor == UPSCALING


def test_chunks_from_disk_are_no_work_of_the_generator(bench: Bench, clock: Clock) -> None:
    bench.collect(bench.frames())
    again = bench.frames()
    bench.collect(again)
    assert again.stats().generator_factor is None and again.stats().frames_per_s is not None


def test_the_second_run_is_told_the_time_of_both_before_it(
    bench: Bench, clock: Clock, status: dict[str | None, str]
) -> None:
    model = Slow(clock)
    first = upscaled(bench, bench.frames(), model)
    assert status["LongtakeUpscale"].endswith("is measured while it runs.")
    bench.collect(first)
    bench.state.start_prompt()
    told = "a second of video takes 0.33 s of the generator and 16.00 s of upscaling."
    upscaled(bench, bench.frames(seed=5, text="0: a blue ball"), model)
    assert status["LongtakeUpscale"].endswith(told)
    upscaled(bench, bench.frames(width=48), model)
    assert not status["LongtakeUpscale"].endswith(told)
    upscaled(bench, bench.frames(), model, scale=1.0)
    assert not status["LongtakeUpscale"].endswith(told)


def test_frames_without_a_generator_are_told_the_stages_time_alone(
    bench: Bench, clock: Clock, status: dict[str | None, str]
) -> None:
    pictures = torch.rand(29, 32, 32, 3)
    bench.collect(sharpened(bench, pictures))
    sharpened(bench, pictures, seed=4)
    told = f"a second of video takes {PASS_S / 0.5:.2f} s of super-resolution."
    assert status["LongtakeSuperResolution"].endswith(told)


def test_a_session_remembers_a_bounded_number(bench: Bench) -> None:
    from longtake.nodes.runtime.work_factors import MAX_KEYS, WorkFactors

    factors = WorkFactors()
    factors.note("unknown", None)
    for number in range(MAX_KEYS + 1):
        factors.note(str(number), float(number))
        factors.note("1", 7.0)
    assert (factors.of("unknown"), factors.of("0"), factors.of("1")) == (None, None, 7.0)
    assert factors.of(str(MAX_KEYS)) == MAX_KEYS
