"""The measures of the guidance bench, on videos with known figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.benchmarks._guidance.cases import cases
from longtake.benchmarks._guidance.findings import findings
from longtake.benchmarks._guidance.plot import draw, figure_of
from longtake.benchmarks._shared.measures import (
    Measurement,
    features,
    kernel_distance,
    motion,
    pictures,
)
from longtake.benchmarks._shared.records import Job, Records
from longtake.benchmarks._shared.sheet import save
from longtake.benchmarks.guidance import GuidancePlan
from longtake.benchmarks.guidance import pictures as pictures_of
from longtake.errors import BadInput
from longtake.samplers.loop import Chunk
from longtake.tests.support.tiny_model import randn

MADE_WITH = {"latent_frames": 42, "weights": ["some"]}
MEASURED = (
    "adherence", "adherence, last tenth", "sharpness",
    "drift of saturation", "slope of saturation per 100 frames",
    "drift of contrast", "slope of contrast per 100 frames",
    "drift of sharpness", "slope of sharpness per 100 frames",
    "motion", "motion, last over first", "seam", "evaluations",
)  # fmt: skip
WAYS = {
    "truth", "none", "cfg",
    "vanilla 1.2", "vanilla 1.5", "vanilla 2", "vanilla 3",
    "vanilla 2, rescaled", "vanilla 2, early steps",
    "vanilla 2, stabilised 0.02", "vanilla 2, stabilised 0.05", "vanilla 2, stabilised 0.1",
    "temporal", "temporal and none 2",
    "fractional 2 at 0.6", "fractional 2 at 0.75", "fractional 2 at 0.85", "fractional 3 at 0.75",
    "context noise 0.02", "context noise 0.05", "context noise 0.1", "context noise 0.2",
    "context noise 0.3", "cfg, 8 steps", "vanilla 2, 8 steps",
}  # fmt: skip
CHUNKS = [Chunk(i, 3 * i, torch.zeros(3, 16, 2, 2)) for i in range(4)]  # 45 frames


def test_a_still_video_does_not_move_or_drift_and_a_fading_one_does() -> None:
    still = randn(1, 3, 16, 24).sigmoid().expand(45, -1, -1, -1)
    assert motion(still, CHUNKS[:1])["motion"] == 0
    assert all(v == pytest.approx(0, abs=1e-6) for k, v in pictures(still).items() if "of" in k)
    fading = still * torch.linspace(1, 0.5, 45).view(-1, 1, 1, 1)
    slope = pictures(fading)["slope of saturation per 100 frames"]
    saturation = (still[0].amax(0) - still[0].amin(0)).mean().item()
    assert slope == pytest.approx(-0.5 * saturation / 0.44, rel=1e-3)
    assert pictures(fading)["drift of contrast"] > 0.05


def test_the_seam_is_the_change_at_chunk_boundaries_over_the_change_inside() -> None:
    jumps = torch.ones(45)
    jumps[[9, 21, 33]] = 3.0  # the first frames of chunks 1, 2 and 3
    video = jumps.cumsum(0).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    assert motion(video, CHUNKS)["seam"] == pytest.approx(3.0)
    assert motion(video, CHUNKS)["motion, last over first"] == pytest.approx(1.0)


def test_a_video_that_freezes_is_seen() -> None:
    moving = randn(45, 3, 8, 8)
    frozen = torch.cat([moving[:30], moving[29:30].expand(15, -1, -1, -1)])
    assert motion(frozen, CHUNKS)["motion, last over first"] < 0.1


def test_the_kernel_distance_is_zero_on_average_for_equal_distributions_only() -> None:
    rng = np.random.default_rng(0)
    same = [kernel_distance(*rng.standard_normal((2, 20, 5))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 200**0.5
    assert kernel_distance(rng.standard_normal((50, 5)), 1 + rng.standard_normal((50, 5))) > 1


def test_segments_are_whole_and_described_by_three_numbers_a_channel() -> None:
    latents = randn(30, 4, 2, 2)
    found = features(latents)
    assert found.shape == (2, 12)
    assert found[0, :4] == pytest.approx(latents[:12].double().mean((0, 2, 3)).numpy())


def test_findings_are_paired_with_plain_cfg_saved_and_drawn(tmp_path: Path) -> None:
    records = recorded(None, truth=0.0, cfg=0.0, temporal=0.25)
    found = findings(GuidancePlan(), records, ["truth", "cfg", "temporal"])
    difference = found.against_plain["temporal"]["motion"]
    assert (difference.mean, difference.low, difference.high) == (0.25, 0.25, 0.25)
    assert found.wider_than(0.5) == ["cfg", "temporal"]  # of 0, 1, 2, 3: about 1 to either side
    assert found.wider_than(1.5) == []
    found.save(tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["suite"] == "guidance" and saved["figures"]["temporal"]["motion"]["clips"] == 4
    assert abs(saved["figures"]["truth"]["distance to truth"]["mean"]) < 3
    pytest.importorskip("matplotlib")
    draw(found, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_every_measure_of_a_rollout_has_a_panel() -> None:
    """No measure of a rollout, nor its distance to truth, may be missing unnoticed."""
    video = randn(45, 3, 16, 24).sigmoid()
    made = {**pictures(video), **motion(video, CHUNKS)}
    rest = {"adherence", "adherence, last tenth", "evaluations"}
    assert {*made, *rest} == {*MEASURED}
    pytest.importorskip("matplotlib")
    records = recorded(None, truth=0.0, cfg=0.0, temporal=0.25)
    figure = figure_of(findings(GuidancePlan(), records, ["truth", "cfg", "temporal"]))
    assert [panel.get_title() for panel in figure.axes] == [*MEASURED, "distance to truth"]
    assert all(panel.get_ylim() == figure.axes[0].get_ylim() for panel in figure.axes)


def test_a_case_with_a_wide_interval_gets_more_rollouts() -> None:
    records = recorded(None, truth=0.0, cfg=0.0, temporal=0.25)
    for seed in range(4, 40):
        figures = dict.fromkeys(MEASURED, float(seed % 4))
        records.add(("cfg", seed), Measurement(figures, np.zeros((3, 6))))
    found = findings(GuidancePlan(), records, ["truth", "cfg", "temporal", "none"])
    assert found.wider_than(0.5) == ["temporal"] and "none" not in found.figures
    assert {name: of["motion"].clips for name, of in found.figures.items()} == {
        "truth": 4, "cfg": 40, "temporal": 4,
    }  # fmt: skip
    assert found.against_plain["temporal"]["motion"].mean == pytest.approx(0.25)
    assert found.against_plain["temporal"]["motion"].clips == 4


def test_a_record_resumes_where_it_stopped_even_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    made = recorded(path, cfg=0.0, temporal=0.25)
    with path.open("a") as file:
        file.write('{"job": ["cfg", 4], "fig')
    again = Records(path, MADE_WITH)
    assert {job: one.figures for job, one in again.measurements.items()} == {
        job: one.figures for job, one in made.measurements.items()
    }
    assert again.missing(["cfg", "none"], range(3, 5)) == [("none", 3), ("cfg", 4), ("none", 4)]
    again.add(("cfg", 4), made.measurements["cfg", 0])
    assert [*Records(path, MADE_WITH).of("cfg")] == [0, 1, 2, 3, 4]
    assert [*Records(path, MADE_WITH).of("temporal")] == [0, 1, 2, 3]


def numbered(job: Job) -> Measurement:
    """Return a measurement that identifies its job."""
    return Measurement({"name": float(len(job[0])), "seed": float(job[1])}, np.zeros((1, 1)))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_measurement_is_kept_under_its_own_job(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "record.jsonl"
    jobs = [(case, seed) for seed in range(3) for case in ("a", "bc")]
    in_time = Records(path, MADE_WITH).complete(numbered, jobs, workers, float("inf"))
    found = Records(path, MADE_WITH).measurements
    assert in_time and {*found} == {*jobs}
    assert all(one.figures == numbered(job).figures for job, one in found.items())
    late = Records(None, MADE_WITH)
    assert not late.complete(numbered, jobs, workers, 0.0) and not late.measurements


def test_a_record_of_other_weights_is_rejected(tmp_path: Path) -> None:
    recorded(tmp_path / "record.jsonl", cfg=0.0)
    with pytest.raises(BadInput, match="choose another --record file"):
        Records(tmp_path / "record.jsonl", {"weights": "others"})


def test_all_guidance_settings_are_compared() -> None:
    """The suite has all required cases, and each recipe matches its name."""
    found = cases()
    assert set(found) >= WAYS
    for name, recipe in found.items():
        _, _, level = name.partition("context noise ")
        assert recipe.noise.level == (float(level) if level else 0.0)
        plain = name.startswith(("cfg", "context noise"))
        assert (recipe.guidance == found["cfg"].guidance) == plain
    told_apart = {(repr(one.guidance), one.steps, one.noise) for one in found.values()}
    assert len(told_apart) == len(found)


def test_a_plan_has_whole_chunks_and_truth_beside_its_cases() -> None:
    assert (
        GuidancePlan(seconds=60.0).latent_frames == 240
        and GuidancePlan(seconds=3.5).latent_frames % 3 == 0
    )
    assert GuidancePlan(cases=("cfg",)).names == ["truth", "cfg"]


def recorded(path: Path | None, **more: float) -> Records:
    """Record four rollouts of each case; a case's figures are the seed plus `more`."""
    records, rng = Records(path, MADE_WITH), np.random.default_rng(0)
    for name, offset in more.items():
        for seed in range(4):
            figures = dict.fromkeys(MEASURED, seed + offset)
            records.add((name, seed), Measurement(figures, rng.standard_normal((3, 6))))
    return records


@pytest.mark.slow
def test_a_sheet_shows_every_tenth_of_every_case(tmp_path: Path) -> None:
    plan = GuidancePlan(seconds=7.5, width=32, cases=("none", "cfg"))
    assert plan.latent_frames == 30
    shown = pictures_of(plan)
    assert {name: len(row) for name, row in shown.items()} == {"none": 10, "cfg": 10}
    assert not torch.equal(shown["none"][-1], shown["cfg"][-1])
    save(shown, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (10 * 34, 2 * (14 + 64 + 2))
        first = np.asarray(sheet)[14:78, :32] / 255
    assert np.abs(first - shown["none"][0].movedim(0, -1).numpy()).max() < 0.003
