"""The figures of the overshoot bench, where the true values are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from longtake.benchmarks import overshoot
from longtake.benchmarks._guidance.feedback import (
    COLOUR_KEPT,
    CONTRAST_KEPT,
    TrueStart,
    errors_kept,
    part,
)
from longtake.benchmarks._guidance.overshoot_plot import draw
from longtake.model.preset import DEMO, DEMO_FOLDER
from longtake.tests.support.tiny_model import randn
from longtake.training.evaluation.kit import load_kit

START = TrueStart(3, "", randn(6, 4, 8, 8), randn(3, 4, 8, 8))


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.5])
def test_what_a_chunk_keeps_of_an_error_is_counted(gain: float) -> None:
    still = randn(3, 4, 8, 8)

    def go_on(past: torch.Tensor) -> torch.Tensor:
        return still + gain * (past[-3:] - START.past[-3:])

    kept = errors_kept(go_on, START)
    assert kept[COLOUR_KEPT] == pytest.approx(gain, rel=1e-4)
    # Contrast is counted against the chunk's own picture, here one that the past has no part in.
    assert abs(kept[CONTRAST_KEPT]) < 0.2 * gain
    assert errors_kept(lambda past: gain * past[-3:], START)[CONTRAST_KEPT] == pytest.approx(1.0)
    assert errors_kept(lambda past: still, START) == {COLOUR_KEPT: 0.0, CONTRAST_KEPT: 0.0}


def test_every_way_of_guiding_is_measured_in_the_steps_that_the_demo_has() -> None:
    assert DEMO.steps in overshoot.STEPS
    assert set(overshoot.ALSO) < set(overshoot.ways(own=True))


def test_a_part_is_a_projection() -> None:
    direction = randn(4, 1, 1)
    assert part(-0.3 * direction.expand(3, 4, 8, 8), direction) == pytest.approx(-0.3)


@pytest.mark.slow
def test_in_one_step_guidance_throws_a_chunk_by_scale_less_one_and_errors_too(
    tmp_path: Path,
) -> None:
    with torch.inference_mode():
        made = overshoot.measure_clip(load_kit(DEMO_FOLDER), 0, (1,))
    assert list(made) == ["vanilla 1, 1 steps", "vanilla 2, 1 steps"]
    base, guided = made.values()
    assert base[overshoot.BEYOND] == 0 and base[overshoot.ERROR] == 1
    assert guided[overshoot.BEYOND] == pytest.approx(1.0, abs=1e-3)
    # The branch without history does not know of the error, so the response doubles with the scale,
    # but for the part of it that text guidance has.
    assert guided[COLOUR_KEPT] == pytest.approx(2 * base[COLOUR_KEPT], rel=0.05)
    assert 0.2 < base[COLOUR_KEPT] < 1


def test_every_way_is_told_apart_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"vanilla 1.2", "vanilla 2, rescaled", "temporal"} <= set(overshoot.ways(own=True))
    name = "vanilla 2, 4 steps"
    rows = [{name: {COLOUR_KEPT: value, CONTRAST_KEPT: 0.9}} for value in (1.0, 1.2)]
    monkeypatch.setattr(overshoot, "spread", lambda *_: rows)
    found = overshoot.measure(2, 1)
    found.save(tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["figures"][name][COLOUR_KEPT]["mean"] == pytest.approx(1.1)
    pytest.importorskip("matplotlib")
    draw(found.figures, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 5_000
