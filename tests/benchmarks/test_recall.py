"""The rows and claims of the recall bench, and one clip with every memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.benchmarks import recall
from longtake.benchmarks._recall import memories
from longtake.benchmarks._recall.memories import (
    CONTENT,
    FULL,
    RANDOM_RUN,
    RECALL_FRAMES,
    TEMP,
    VIEW,
    WINDOW,
)
from longtake.benchmarks._recall.plot import draw
from longtake.model.preset import DEMO_FOLDER
from longtake.training.evaluation.kit import load_kit
from longtake.training.evaluation.returns import OFF, TRUTH, CameraTurn

BASE = {WINDOW: 0.3, TEMP: 0.2, CONTENT: 0.4, RANDOM_RUN: 0.1, FULL: 0.2}


def rows(gain: float) -> list[dict[str, float]]:
    """Clips that differ much, in which view is better than the window by about `gain`."""
    made = []
    for seed in range(12):
        held = {name: value + 0.05 * seed for name, value in BASE.items()}
        held[VIEW] = held[WINDOW] + gain + 0.01 * (seed % 3 - 1)
        made.append({**held, **{f"MB: {name}": 1.0 for name in held}})
    return made


def test_gains_are_taken_within_clips() -> None:
    results = recall.RecallResults()
    recall.summarise(results, "48 away, 24 back", rows(0.2))
    gain = results.differences[f"48 away, 24 back: {VIEW} less {WINDOW}"]
    assert gain.low < 0.2 < gain.high and gain.high - gain.low < 0.02
    held = {c.text.split(": ")[1].split(" of ")[0]: c.holds for c in results.claims}
    assert held == {
        f"{ours} recalls more than {other}": True
        for ours in (VIEW, CONTENT)
        for other in (WINDOW, TEMP, RANDOM_RUN)
    }
    assert results.differences[f"48 away, 24 back: {VIEW} less {CONTENT}"].high < 0.12


def test_no_gain_is_no_claim_that_holds() -> None:
    results = recall.RecallResults()
    recall.summarise(results, "128 away, 64 back", rows(0.0))
    (claim,) = (c for c in results.claims if f"{VIEW} recalls more than {WINDOW} " in c.text)
    assert not claim.holds
    few = recall.RecallResults()
    recall.summarise(few, "128 away, 64 back", rows(0.3)[: recall.MIN_CLIPS - 1])
    assert few.differences and not few.claims


def test_rows_as_served_come_last_and_are_few() -> None:
    plan = recall.RecallPlan(away=(48, 128), clips=20)
    assert [plan.turns, plan.served] == [
        ["48 away, 24 back", "128 away, 64 back"],
        [
            f"{turn}, {way}"
            for way in ("as served", "the whole way back")
            for turn in ("48 away, 24 back", "128 away, 64 back")
        ],
    ]


@pytest.mark.slow
def test_a_clip_gives_every_memory_the_windows_bytes() -> None:
    kit, turn = load_kit(DEMO_FOLDER), CameraTurn(24, 12)
    figures = memories.held_figures(kit, turn, 0)
    megabytes = {name[4:]: size for name, size in figures.items() if name.startswith("MB: ")}
    assert max(size for name, size in megabytes.items() if name != FULL) == megabytes[WINDOW]
    assert -1 <= min(figures[name] for name in megabytes) <= figures[TRUTH] + 1
    assert 0 <= figures[f"first frame: {VIEW}"] <= turn.history - 12 - RECALL_FRAMES
    assert {*memories.served_figures(kit, turn, 0)} == {TRUTH, *memories.SERVED}
    whole = memories.whole_figures(kit, turn, 0)
    names = [TRUTH, *memories.SERVED]
    assert {*whole} == {f"{name}{end}" for name in names for end in ("", OFF)}
    assert max(whole[name] for name in names) == whole[TRUTH] > 0.5


def test_the_plot_has_a_panel_for_each_row(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = recall.RecallResults()
    for case in ("48 away, 24 back", "48 away, 24 back, as served"):
        recall.summarise(results, case, rows(0.2))
    draw(results.figures, results.differences, tmp_path / "recall.png")
    assert (tmp_path / "recall.png").stat().st_size > 10_000


def test_over_the_whole_way_back_scenery_and_camera_are_told_apart() -> None:
    whole = [{TRUTH: 0.9, **{f"{name}{end}": value for name, value in row.items()
                                      if name in memories.SERVED for end in ("", OFF)}}
             for row in rows(0.2)]  # fmt: skip
    results, case = recall.RecallResults(), f"48 away, 24 back{recall.WHOLE}"
    recall.summarise(results, case, whole)
    names = {name.removeprefix(f"{case}: ") for name in results.differences}
    assert f"{VIEW}{OFF} less {WINDOW}{OFF}" in names
    assert not any(TRUTH in name for name in names)
