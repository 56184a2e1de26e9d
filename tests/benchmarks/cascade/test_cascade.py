"""The cascade bench: stages are values, and what it says of them follows from what they do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from longtake.benchmarks._shared.report import Results
from longtake.benchmarks.cascade import __main__ as program
from longtake.benchmarks.cascade import quality, shots
from longtake.benchmarks.cascade import suite as cascade
from longtake.benchmarks.cascade.quality import AGAIN, CHANGE, TRUTH, measure_quality
from longtake.benchmarks.cascade.shots import ShotTimes
from longtake.benchmarks.cascade.stages import PLAIN, STAGES, FrameWise, Stage, bicubic
from longtake.model.preset import DEMO_FOLDER
from longtake.model.refiner.network import shrink
from longtake.training.evaluation.kit import load_kit

CHUNKS, FRAMES, PAUSE_S = 4, 3, 0.05


class Behind:
    """A stage that hands each chunk out when the next one comes."""

    def __init__(self) -> None:
        self._waiting: list[Tensor] = []

    def feed(self, frames: Tensor) -> Iterable[Tensor]:
        ready, self._waiting = self._waiting, [bicubic(frames)]
        return ready

    def drain(self) -> Iterable[Tensor]:
        return self._waiting


def stage(opened: Any, **more: Any) -> Stage:
    return Stage("a", "", opened, **more)


def shot() -> Any:
    """Frames that take a while to come, as a rollout's do."""

    def chunks() -> Iterator[Any]:
        for index in range(CHUNKS):
            time.sleep(PAUSE_S)
            frames = torch.rand(FRAMES, 3, 16, 24, generator=torch.Generator().manual_seed(index))
            yield SimpleNamespace(index=index, frames=frames)

    return SimpleNamespace(width=24, height=16, fps=8.0, chunks=chunks())


@pytest.mark.parametrize(("way", "chunks_before"), [("one shot", 2), ("afterwards", CHUNKS)])
def test_large_frames_come_while_a_shot_is_made_or_after_it(
    way: str, chunks_before: int, tmp_path: Path
) -> None:
    times = shots.WAYS[way](shot(), stage(Behind), tmp_path / "x.mp4")
    assert times.frames == CHUNKS * FRAMES
    assert times.first_small_s >= PAUSE_S
    assert times.first_large_s >= chunks_before * PAUSE_S
    if way == "one shot":
        assert times.first_large_s < times.total_s - PAUSE_S
    assert (tmp_path / "x.mp4").stat().st_size > 0


def test_the_base_alone_has_no_large_frames(tmp_path: Path) -> None:
    times = shots.base_alone(shot(), stage(Behind), tmp_path / "x.mp4")
    assert times.frames == CHUNKS * FRAMES
    assert times.first_large_s < times.total_s - PAUSE_S  # a screen enlarges the first chunk


def results(**first_large: float) -> Results:
    """Results of cases with so many seconds to the first large frame, and 10 frames a second."""
    made = Results("cascade")
    for label, seconds in first_large.items():
        times = [ShotTimes(0.1, seconds, 1.0, 10)] * 3
        cascade.add_case(made, {"base": "base alone"}.get(label, f"a, {label}"), times)
    return made


def test_one_shot_must_be_sooner_than_enlarging_afterwards() -> None:
    def holds(together: float, later: float, **more: Any) -> list[bool]:
        made = results(base=0.1, **{"one shot": together, "afterwards": later})
        cascade.judge_stage(made, "a", stage(Behind, **more))
        return [claim.holds for claim in made.claims]

    assert holds(0.2, 0.9) == [True]
    assert holds(0.9, 0.2) == [False]
    assert holds(0.2, 0.9, least_fps=9.0) == [True, True]
    assert holds(0.2, 0.9, least_fps=11.0) == [True, False]


@pytest.mark.parametrize(("least", "holds"), [(1.5, True), (2.5, False)])
def test_a_stage_must_gain_what_it_promises(
    monkeypatch: pytest.MonkeyPatch, least: float, *, holds: bool
) -> None:
    def figures(kit: Any, seed: int, stages: Any) -> dict[str, float]:
        assert [*stages] == [PLAIN, "a"]
        return {f"{PLAIN}: {TRUTH}": 30.0 + seed, f"a: {TRUTH}": 32.0 + seed}

    monkeypatch.setattr(cascade, "measure_quality", figures)
    made = Results("cascade")
    stages = {PLAIN: STAGES[PLAIN](), "a": stage(Behind, least_gain_db=least)}
    cascade.add_quality(made, stages, clips=3)
    assert made.figures["a: gain over bicubic, dB"].median == 2.0
    assert [claim.holds for claim in made.claims] == [holds]


def test_a_stage_whose_frames_depend_on_the_chunks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_mean(frames: Tensor) -> Tensor:
        return bicubic(frames) + frames.mean()

    monkeypatch.setattr(cascade, "demo_shot", lambda *_: shot())
    made = Results("cascade")
    stages = {"exact": stage(Behind), "apart": stage(lambda: FrameWise(by_mean))}
    cascade.add_equality(made, stages)
    assert [claim.holds for claim in made.claims] == [True, False]


def test_quality_knows_the_truth_from_what_a_screen_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that knows the large truth, and one that makes it up."""
    monkeypatch.setattr(quality, "TRUE_LATENTS", 3)
    monkeypatch.setattr(quality, "MADE_LATENTS", 3)
    kit = load_kit(DEMO_FOLDER)
    with torch.inference_mode():
        small, truth = quality._true_clip(kit, 0)

    def knowing(frames: Tensor) -> Tensor:
        return truth if torch.equal(frames, small) else bicubic(frames)

    def noisy(frames: Tensor) -> Tensor:
        larger = bicubic(frames)
        noise = torch.randn(larger.shape, generator=torch.Generator().manual_seed(0))
        return larger + 0.2 * noise

    stages = {"truth": stage(lambda: FrameWise(knowing)), "noise": stage(lambda: FrameWise(noisy)),
              PLAIN: STAGES[PLAIN]()}  # fmt: skip
    figures = measure_quality(kit, 0, stages)
    assert figures[f"truth: {TRUTH}"] == torch.inf and figures[f"truth: {CHANGE}"] == 1
    assert 25 < figures[f"{PLAIN}: {TRUTH}"] < 40 and figures[f"{PLAIN}: {AGAIN}"] > 35
    assert figures[f"noise: {CHANGE}"] > 2
    for quantity in (TRUTH, AGAIN):
        assert figures[f"noise: {quantity}"] < figures[f"{PLAIN}: {quantity}"] - 5


def test_making_small_again_takes_the_mean_of_a_small_pixel() -> None:
    large = torch.arange(64.0).view(1, 1, 1, 8, 8)
    assert shrink(large).flatten().tolist() == [
        float(large[0, 0, 0, r : r + 4, c : c + 4].mean()) for r in (0, 4) for c in (0, 4)
    ]


def test_a_whole_small_run_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "TRUE_LATENTS", 3)
    monkeypatch.setattr(quality, "MADE_LATENTS", 3)
    monkeypatch.setattr(cascade, "add_peaks", lambda *_: None)
    words = ["--chunks", "2", "--rounds", "1", "--clips", "1", "--json", str(tmp_path / "x.json")]
    done = CliRunner().invoke(program.command, words)
    assert done.exit_code == 0, done.output
    made = json.loads((tmp_path / "x.json").read_text("utf-8"))
    cases = ("base alone", "bicubic, one shot", "bicubic, afterwards")
    for what in ("first small frame, s", "first large frame, s", "frames a second"):
        for label in cases:
            assert len(made["samples"][f"{label}: {what}"]) == 1
    assert {claim["text"].split(":")[0] for claim in made["claims"]} == {PLAIN}


@pytest.mark.parametrize("grows", [0.0, 0.5])
def test_peaks_are_of_shots_of_two_lengths(monkeypatch: pytest.MonkeyPatch, grows: float) -> None:
    chunk = 12 * 3 * 256 * 384 * 4  # bytes of its large frames
    sizes = {"base alone": 0.0, "one shot": grows, "afterwards": 2.0}

    def peak(build: Any, name: str, count: int) -> int:
        assert build is shots.shot_case
        way, stage = name.split(",")
        assert stage == PLAIN
        return int(10**8 + sizes[way] * count * chunk)

    monkeypatch.setattr(cascade, "peak_bytes", peak)
    made = Results("cascade")
    cascade.add_peaks(made, {PLAIN: STAGES[PLAIN]()}, chunks=3)
    assert made.bytes["bicubic, afterwards: peak of 12 chunks"] == 10**8 + 24 * chunk
    assert [(claim.bound, claim.holds) for claim in made.claims] == [(grows, not grows)]
