"""`longtake bench ladder`: which rungs are made, what is compared, and what is claimed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from longtake.benchmarks._shared.measures import Measurement
from longtake.benchmarks.ladder import shots, suite
from longtake.benchmarks.ladder.__main__ import command
from longtake.benchmarks.ladder.decoders import in_bfloat16, in_float32
from longtake.benchmarks.ladder.results import SHARES, TO_TRUTH, LadderResults
from longtake.benchmarks.ladder.rungs import REFERENCE, RUNGS
from longtake.benchmarks.ladder.suite import LadderPlan, measure
from longtake.benchmarks.ladder.weights import DECODER, STUDENT, OwnWeights, kit_with
from longtake.errors import BadInput
from longtake.model.preset import DEMO, DEMO_FAST
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.int8 import needs_int8
from longtake.training.evaluation import measures
from longtake.training.evaluation.kit import Recipe

OTHER = "plain 3, other decoder"


def shot(seed: int, shift: float = 0.0, **figures: float) -> Measurement:
    return Measurement(figures, np.random.default_rng(seed).normal(shift, 1, (6, 4)))


TRUE = {seed: shot(90 + seed) for seed in range(8)}


def results_of(reference: list[float], rung: list[float]) -> LadderResults:
    results = LadderResults(None, {})
    for name, values in ((REFERENCE, reference), ("guided 4", rung)):
        shots = {seed: shot(seed, adherence=value) for seed, value in enumerate(values)}
        results.add(name, shots, TRUE, {})
    results.compare("guided 4", REFERENCE)
    return results


def test_a_rung_that_is_as_good_is_within_two_points() -> None:
    results = results_of([0.9, 0.95, 0.97, 1.0], [0.89, 0.94, 0.96, 0.99])
    [claim] = results.claims
    assert claim.holds and claim.bound == pytest.approx(0.01)


def test_a_rung_whose_interval_reaches_beyond_two_points_is_not() -> None:
    results = results_of([0.9, 0.95, 0.97, 1.0], [0.9, 0.95, 0.97, 0.94])
    assert results.differences["guided 4"]["adherence"].mean == pytest.approx(-0.015)
    assert not results.claims[0].holds


def test_where_less_is_better_more_is_worse() -> None:
    results = LadderResults(None, {})
    for name, smeared in ((REFERENCE, 0.1), ("guided 4", 0.2)):
        results.add(name, {seed: shot(seed, smeared=smeared) for seed in range(2)}, TRUE, {})
    results.compare("guided 4", REFERENCE)
    [claim] = results.claims
    assert claim.bound == pytest.approx(0.1) and not claim.holds


def test_the_distance_to_truth_grows_with_the_distance() -> None:
    results = LadderResults(None, {})
    for name, shift in (("guided 8", 0.0), ("guided 4", 0.5), ("guided 2", 1.0)):
        results.add(name, {s: shot(s, shift, adherence=1.0) for s in range(8)}, TRUE, {})
    names = ("guided 8", "guided 4", "guided 2")
    near, middle, far = (results.figures[name][TO_TRUTH].mean for name in names)
    assert near < middle < far


def test_too_few_shots_have_no_distance() -> None:
    """A seed's shot has a single segment on the demo, and half of two shots is one."""
    results = LadderResults(None, {})
    for count in (2, 4):
        shots = {seed: shot(seed, adherence=1.0) for seed in range(count)}
        for measured in shots.values():
            measured.features.resize((1, 4), refcheck=False)
        results.add(f"{count}", shots, shots, {})
    assert TO_TRUTH not in results.figures["2"] and TO_TRUTH in results.figures["4"]


def test_rungs_are_named_by_weights_and_guidance() -> None:
    for name, rung in RUNGS.items():
        assert (STUDENT in rung.takes) == name.startswith("student")
        assert (DECODER in rung.takes) == ("other decoder" in name)
        assert rung.recipe.scale == (2.5 if name.startswith("guided") else 1.0)
    assert RUNGS["plain 3"].recipe == Recipe()
    assert RUNGS["student 2"].recipe.first_steps == 2 != DEMO.first_steps
    shipped = RUNGS["student 2, first 6"].recipe
    names = ("steps", "first_steps", "shift")
    assert all(getattr(shipped, name) == getattr(DEMO_FAST, name) for name in names)


def test_without_a_student_its_rungs_are_left_out_or_refused() -> None:
    assert not any(rung.takes for rung in LadderPlan().chosen().values())
    assert [*LadderPlan(rungs=("guided 2",)).chosen()] == [REFERENCE, "guided 2"]
    with pytest.raises(BadInput, match="--student"):
        LadderPlan(rungs=("student 2",)).chosen()


def test_another_decoder_has_a_rung_of_its_own(tmp_path: Path) -> None:
    """Its shots are kept under its weights, and its pictures are its own."""
    with pytest.raises(BadInput, match="--decoder"):
        LadderPlan(rungs=(OTHER,)).chosen()
    with pytest.raises(BadInput, match="--decoder"):
        LadderPlan(student=tmp_path, rungs=("student 2, first 6, other decoder",)).chosen()
    file = tmp_path / "vae.safetensors"
    vae = TinyVAE(TinyVAEConfig(decoder_widths=(4, 4, 4)))
    save_file(vae.state_dict(), file)
    plan = LadderPlan(rungs=(OTHER,), decoder=file)
    assert [*plan.chosen()] == [REFERENCE, OTHER]
    assert plan.name(OTHER).startswith(f"{OTHER} by ") and plan.name(REFERENCE) == REFERENCE
    own, other = (kit_with(plan.own.only(RUNGS[name].takes)).vae for name in (REFERENCE, OTHER))
    assert other.config.decoder_widths == (4, 4, 4) != own.config.decoder_widths


def test_a_rung_may_decode_in_bfloat16() -> None:
    half = replace(RUNGS[REFERENCE], decoding=in_bfloat16)
    own, other = (suite.kit_of(rung, OwnWeights()).vae for rung in (RUNGS[REFERENCE], half))
    assert {p.dtype for p in own.parameters()} == {torch.float32}
    assert torch.bfloat16 in {p.dtype for p in other.decoder.parameters()}
    assert own.encoder.state_dict().keys() == other.encoder.state_dict().keys()
    names = [name for name, rung in RUNGS.items() if rung.decoding is in_bfloat16]
    assert names == ["student 2, first 6, bfloat16 decoder"]


@needs_int8
def test_a_rung_may_decode_in_8_bit_integers() -> None:
    rung = replace(RUNGS["student 2, first 6, 8-bit decoder"], takes=())
    own, coded = (suite.kit_of(one, OwnWeights()).vae for one in (RUNGS[REFERENCE], rung))
    latents = torch.zeros(1, 2, 16, 2, 3)
    kept = [vae.decode_groups(latents, vae.start(vae.decoder))[1] for vae in (own, coded)]
    assert [{one.dtype for one in memory} for memory in kept] == [{torch.float32}, {torch.uint8}]


def test_a_rung_may_multiply_in_bfloat16_as_the_shipped_one_does() -> None:
    half = RUNGS["student 2, first 6, low precision"]
    packed = suite.kit_of(replace(half, takes=(), decoding=in_float32), OwnWeights()).layers.packed
    assert packed is not None and packed.dtype is torch.bfloat16 and DEMO_FAST.bfloat16_products
    assert suite.kit_of(RUNGS[REFERENCE], OwnWeights()).layers.packed is None


def test_finished_shots_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[tuple[str, int]]()

    def measured(plan: LadderPlan, job: tuple[str, int]) -> Measurement:
        made.append(job)
        return shot(job[1], adherence=0.9)

    monkeypatch.setattr(suite, "measure_job", measured)
    monkeypatch.setattr(
        suite.Records,
        "complete",
        lambda self, measure, jobs, *_: [self.add(job, measure(job)) for job in jobs],
    )
    record = tmp_path / "ladder.jsonl"
    plan = LadderPlan(rungs=("guided 2",), shots=2, long=1, rounds=0, record=record)
    measure(plan)
    assert len(made) == 8  # truth, the reference and the rung, of two seeds each, and two long
    measure(plan)
    assert len(made) == 8


def test_another_students_shots_are_others(tmp_path: Path) -> None:
    names = set[str]()
    for weight in (1.0, 2.0):
        folder = tmp_path / f"{weight}"
        folder.mkdir()
        save_file({"x": torch.full((2,), weight)}, folder / "dit.safetensors")
        plan = LadderPlan(folder)
        names.add(plan.name("student 2"))
        assert plan.name("guided 4") == "guided 4"
    assert len(names) == 2 and all(name.startswith("student 2 by ") for name in names)


@pytest.mark.slow
def test_the_command_measures_and_times_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shots, "LOOKS_LATENTS", 12)
    monkeypatch.setattr(shots, "DRIVE_LATENTS", 12)
    monkeypatch.setattr(measures, "TURN", 12)
    monkeypatch.setattr(shots, "LONG_LATENTS", 45)  # the last tenth is a chunk
    path = tmp_path / "ladder.json"
    words = ["--rung", "plain 1", "--shots", "2", "--long", "1", "--rounds", "1"]
    run = CliRunner().invoke(command, [*words, "--json", str(path)])
    assert run.exit_code == 0, run.output
    assert "plain 1: with decoding" in run.output
    result = json.loads(path.read_text(encoding="utf-8"))
    assert {*SHARES} == {*result["differences"]["plain 1"]}
    late = result["figures"]["plain 1"]["right, early less late"]
    assert late["clips"] == 1 and result["figures"]["plain 1"]["adherence"]["clips"] == 2
