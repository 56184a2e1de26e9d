"""Long rollouts measured by tenths: known figures, and a whole run on tiny twins."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from longtake.benchmarks import endurance
from longtake.benchmarks._long.rollouts import MIN_TRUTHS, LongPlan, run
from longtake.benchmarks._long.tenths import ends, error, tenths
from longtake.benchmarks._long.tenths_plot import lines
from longtake.benchmarks._shared.measures import Measurement
from longtake.benchmarks._shared.records import Job, Records
from longtake.tests.support.tenths import TRUTH, figures, run_here


def test_truth_is_one_standard_deviation_from_itself_and_a_shift_adds_to_it() -> None:
    known = [one.features for one in TRUTH]
    assert error(np.concatenate(known), known).mean() == pytest.approx(1.0, abs=0.02)
    assert error(np.full((1, 48), 5.0), known)[0] == pytest.approx(5.0, abs=0.6)


def test_the_ends_are_compared_within_each_rollout() -> None:
    found = ends([figures(0.02, 0.1), figures(0.04, 0.1)], TRUTH)
    assert found["right readings, last minus first"] == pytest.approx([-0.18, -0.36])
    assert found["motion, last over first"] == pytest.approx([1 - 9 * 0.02, 1 - 9 * 0.04])
    assert min(found["error, last tenth"]) > 0.8 > 0.2 > max(found["error, first tenth"])
    parts = tenths([figures(0.02), figures(0.04)], TRUTH)
    assert [one.mean for one in parts["motion"]] == pytest.approx([2 - 0.06 * i for i in range(10)])


@pytest.mark.parametrize(("fall", "holds"), [(0.0, True), (0.02, False)])
def test_a_video_that_freezes_or_forgets_does_not_pass(
    fall: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Records, "complete", run_here)
    known = lambda plan, job: TRUTH[job[1]] if job[0] == "truth" else figures(fall)  # noqa: E731
    monkeypatch.setattr(endurance, "_measure_job", known)
    found = endurance.measure(LongPlan(4, 240))
    assert [claim.holds for claim in found.claims] == [holds, holds]
    assert len(found.ends) == len(endurance.CASES)


@pytest.mark.parametrize("rollouts", [1, 3])
def test_a_few_rollouts_are_reported_and_not_judged(
    rollouts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one rollout low, high and mean are equal, so a claim on a bound would hold by chance."""
    monkeypatch.setattr(Records, "complete", run_here)
    known = lambda plan, job: TRUTH[job[1]] if job[0] == "truth" else figures()  # noqa: E731
    monkeypatch.setattr(endurance, "_measure_job", known)
    found = endurance.measure(LongPlan(rollouts, 240))
    told = "not judged: 1 rollout" if rollouts == 1 else "not judged: 3 rollouts"
    found.save(tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["claims"] == []
    assert set(saved["not_judged"].values()) == {told} and len(saved["not_judged"]) == 2
    found.show(Console(soft_wrap=True, file=(text := io.StringIO())))
    assert f"{told} motion stays at 90 % or more" in text.getvalue()
    assert "holds" not in text.getvalue()


def test_one_rollout_is_compared_with_more_than_one_clip_of_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[Job]()

    def measure(job: Job) -> Measurement:
        asked.append(job)
        return TRUTH[job[1]] if job[0] == "truth" else figures()

    monkeypatch.setattr(Records, "complete", run_here)
    cases = ["a, 2 steps", "one step, so"]
    found = run("some", LongPlan(1, 120), cases, measure, {"latent_frames": 120})
    assert [name for name, _ in asked] == ["truth"] * MIN_TRUTHS + cases
    assert found.ends["one step, so"]["error, first tenth"].clips == 1
    assert [*lines(found, "motion", "2 steps")] == ["a"]
    assert [*lines(found, "motion", "")] == ["one step, so"]


def test_of_one_case_there_may_be_more_rollouts_and_pairs_are_of_the_same_seeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Records, "complete", run_here)
    file, told = tmp_path / "record.jsonl", {"latent_frames": 120}

    def measure(job: Job) -> Measurement:
        return (
            TRUTH[job[1]] if job[0] == "truth" else figures(0.01 * job[1] + (job[0] == "a") * 0.02)
        )

    run("some", LongPlan(2, 120, record=file), ["a", "b"], measure, told)
    found = run("some", LongPlan(4, 120, cases=("a",), record=file), ["a", "b"], measure, told)
    assert found.seeds == {"a": [0, 1, 2, 3], "b": [0, 1]}
    assert found.ends["a"]["motion, last over first"].clips == 4
    found.pair("a", "b", ["right readings, last minus first"])
    [pair] = found.pairs
    change = pair.figures["right readings, last minus first"]
    assert change.clips == 2 and change.mean == pytest.approx(-0.18)
    found.pair("a", "c", ["right readings, last minus first"])
    assert len(found.pairs) == 1
