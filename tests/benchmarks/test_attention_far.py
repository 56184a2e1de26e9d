"""The arithmetic of the far-past bench, and one clip of its recall."""

from __future__ import annotations

import pytest

from longtake.benchmarks import attention_far
from longtake.benchmarks._attention import far_layer, far_recall
from longtake.benchmarks._attention.far_layer import FAR_PASS, LINEAR, NEAR_PASS, WINDOW_PASS
from longtake.benchmarks._attention.recall import CameraTurn
from longtake.benchmarks._shared.report import Results
from longtake.model.preset import DEMO_FOLDER
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import FarReading
from longtake.training.evaluation.kit import load_kit


def test_eight_layers_read_far_in_two_of_four_steps_and_commits_never() -> None:
    rules = far_recall.far_rules(21, 0.25)
    assert far_layer.passes(rules) == (134, 16)
    assert far_layer.passes(MemoryRules()) == (150, 0)
    assert rules.far is not None and [*rules.far.reading_layers(30)] == [*range(29, 14, -2)]


def test_a_chunk_adds_up_from_its_passes() -> None:
    same = {WINDOW_PASS: 3.0, NEAR_PASS: 3.0, FAR_PASS: 3.0, LINEAR: 1.0}
    assert attention_far.chunk_ratio(same) == 1
    assert attention_far.chunk_ratio({**same, FAR_PASS: 6.0}) == 1 + 16 * 3 / (150 * 4)
    assert attention_far.chunk_ratio({**same, NEAR_PASS: 6.0}) == 1 + 134 * 3 / (150 * 4)


def test_the_planned_bytes_are_those_of_all_layers_in_bfloat16() -> None:
    results = Results("attention_far")
    attention_far._bytes(results)  # noqa: SLF001
    frame = 30 * 52 * 12 * 128  # values of one latent frame's keys in one layer
    coded = results.bytes["200 latent frames, main memory"]
    assert coded is not None and 1 <= coded / (30 * 185 * 2 * frame) < 1.05  # int8 and scales
    windows = results.bytes["window of 21, device, without"]
    assert windows is not None and windows >= 2 * 2 * 30 * 21 * frame
    assert all(claim.holds for claim in results.claims) and len(results.claims) == 2


def test_the_density_counts_steps_layers_and_frames() -> None:
    """36 frames of history, 12 near: in 2 of 4 steps and 2 of 6 layers a quarter of 24 more."""
    cases = far_recall.CASES
    densities = [far_recall.density(cases[name], 36, 6) for name in cases]
    assert densities == pytest.approx([1, 12 / 36, 16 / 36, 13 / 36])


@pytest.mark.slow
def test_a_near_window_as_long_as_the_history_is_the_full_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near = MemoryRules(far=FarReading(99, 0))
    monkeypatch.setattr(far_recall, "CASES", {"full history": MemoryRules(), "near": near})
    figures = far_recall.far_recall(load_kit(DEMO_FOLDER), CameraTurn(6, 3), 0)
    assert figures["near"] == pytest.approx(figures["full history"], abs=0.02)  # int8
    assert figures["PSNR: near"] > 35
