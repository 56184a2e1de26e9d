"""Diffusion Forcing and its twins: missing twins are trained, and pairs are compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from longtake.benchmarks import forcing
from longtake.benchmarks._guidance.feedback import COLOUR_KEPT, CONTRAST_KEPT
from longtake.benchmarks._long import ablation_models, tenths
from longtake.benchmarks._long.rollouts import LongPlan, LongResults, run
from longtake.benchmarks._long.tenths import DRIFT
from longtake.benchmarks._long.tenths_plot import column_of, draw, lines
from longtake.benchmarks._shared.measures import Measurement
from longtake.benchmarks._shared.records import Job, Records
from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.tests.support.tenths import TRUTH, figures, run_here
from longtake.training.batches import TASKS
from longtake.training.train_dit import DiTTraining, build, copy_of, save

TWINS = ("diffusion-forcing", "teacher-forcing", "full-sequence")
DIT = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=64)
POOL = replace(TASKS["narrow"].pool, clips=2, latent_frames=8, width=16)
TASK = replace(TASKS["narrow"], pool=POOL, batch=1, context=6, noisy=6, windows=(3,))


@pytest.fixture
def same_twins(tmp_path: Path) -> None:
    """Provide three twins with the same tiny weights."""
    networks = build(DIT)
    for name in TWINS:
        (tmp_path / name).mkdir()
        save(tmp_path / name, copy_of(networks), networks)


def budget(steps: int) -> DiTTraining:
    """Return a budget with clips of eight latent frames of 64 x 16 pixels."""
    return DiTTraining(steps, config=DIT, tasks={"narrow": TASK}, probe=TASK, only="narrow")


def steps_of(twin: Path) -> int:
    """Return the number of finished training steps."""
    done: int = torch.load(twin / "dit.pt", weights_only=True)["step"]
    return done


def test_twins_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no trained diffusion-forcing, teacher-forcing.* --train "):
        forcing.twins_in(tmp_path)


def test_one_command_trains_what_is_missing_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped twin resumes, whatever weights it left; a finished twin stays."""
    monkeypatch.setattr(ablation_models, "BUDGET", budget(1))
    ablation_models.train_twins(tmp_path)
    stopped, gone, kept = (tmp_path / name for name in TWINS)
    shutil.rmtree(gone)
    (kept / "dit.pt").unlink()
    before = (kept / "dit.safetensors").read_bytes()
    monkeypatch.setattr(ablation_models, "BUDGET", budget(2))
    with pytest.raises(BadInput, match="no trained diffusion-forcing, teacher-forcing in"):
        forcing.twins_in(tmp_path)
    ran = list[Path]()

    def measure(plan: LongPlan, folder: Path) -> LongResults:
        ran.extend(forcing.twins_in(folder).values())
        return LongResults("forcing", plan, {})

    monkeypatch.setattr(forcing, "measure", measure)
    result = CliRunner().invoke(forcing.command, ["--train", "--twins", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert ran == [stopped, gone, kept]
    assert (steps_of(stopped), steps_of(gone)) == (2, 2)
    assert (kept / "dit.safetensors").read_bytes() == before


@pytest.mark.usefixtures("same_twins")
def test_pairs_are_compared_rollout_by_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts differ far more than twins do, so a difference within a pair has a narrow
    interval.
    """
    known = forcing.cases(forcing.twins_in(tmp_path))

    def one(plan: LongPlan, folder: Path, job: Job) -> Measurement:
        name, seed = job
        if name == "truth":
            return TRUTH[seed]
        twin, _, noise = known[name]
        more = 0.1 * (twin == "teacher-forcing") - 0.05 * (noise > 0)
        rollout = figures(growth=seed + 0.1 * (noise == 0))
        kept = {COLOUR_KEPT: seed + more, CONTRAST_KEPT: seed - more}
        return Measurement(rollout.figures | kept, rollout.features)

    monkeypatch.setattr(Records, "complete", run_here)
    monkeypatch.setattr(forcing, "_measure_job", one)
    found = forcing.measure(LongPlan(4, 120), tmp_path)
    found.save(tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    pairs = {(pair["case"], pair["less"]): pair["figures"] for pair in saved["pairs"]}
    assert len(pairs) == len(saved["pairs"]) == 2 * 3 * 2 + 3 * 3
    plain, twin, noisy = (
        f"{name}, 2 steps, context noise {noise}"
        for name, noise in ((TWINS[0], "0"), (TWINS[1], "0"), (TWINS[1], "0.1"))
    )
    between, within = pairs[twin, plain], pairs[noisy, twin]
    for bound in ("low", "mean", "high"):
        assert between[COLOUR_KEPT][bound] == pytest.approx(0.1)
        assert between[CONTRAST_KEPT][bound] == pytest.approx(-0.1)
        assert between[DRIFT][bound] == 0
        assert within[COLOUR_KEPT][bound] == pytest.approx(-0.05)
    assert within[DRIFT]["high"] < 0
    alone = saved["ends"][twin][COLOUR_KEPT]
    assert alone["high"] - alone["low"] > 1
    assert saved["samples"][twin][COLOUR_KEPT] == pytest.approx([0.1, 1.1, 2.1, 3.1])


@pytest.mark.slow
@pytest.mark.usefixtures("same_twins")
def test_twins_are_compared_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = forcing.twins_in(tmp_path)
    assert len(forcing.cases(twins)) == 3 * 3 * 2
    monkeypatch.setattr(Records, "complete", run_here)
    monkeypatch.setattr(tenths, "TRUE_LATENTS", 24)
    monkeypatch.setattr(forcing, "STEPS", (1,))
    monkeypatch.setattr(forcing, "CONTEXT_NOISE", (0.1,))
    plan = LongPlan(1, 120, width=32, record=tmp_path / "record.jsonl")
    found = forcing.measure(plan, tmp_path)
    readings = [one["right readings"][9].mean for one in found.tenths.values()]
    assert len(readings) == 3 and len(set(readings)) == 1  # the same weights, the same shots
    found.save(tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["suite"] == "forcing" and len(saved["made_with"]["twins"]) == 3
    assert {column_of(name) for name in found.tenths} == {"1 steps"}
    assert list(lines(found, "motion", "1 steps")) == [
        f"{twin}, context noise 0.1" for twin in twins
    ]
    again = run("forcing", plan, [*found.ends], lambda job: pytest.fail(), found.made_with)
    for name, ends in found.ends.items():
        assert [f.mean for f in again.ends[name].values()] == pytest.approx(
            [f.mean for f in ends.values()], rel=0.02
        )
    pytest.importorskip("matplotlib")
    draw(found, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000
