"""The histories that the demo never saw match their names, and settings are compared on them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from longtake.benchmarks import unseen
from longtake.benchmarks._guidance.feedback import HISTORY, TrueStart, true_start
from longtake.benchmarks._guidance.unseen_pasts import HALF, SEEN, pasts
from longtake.benchmarks._guidance.unseen_plot import draw
from longtake.model.preset import DEMO_FOLDER
from longtake.training.batches import TASKS
from longtake.training.evaluation.kit import Kit, load_kit


@pytest.fixture(scope="module")
def kit() -> Kit:
    return load_kit(DEMO_FOLDER)


@pytest.fixture(scope="module")
def starts(kit: Kit) -> dict[str, TrueStart]:
    """Return all histories of one clip."""
    with torch.inference_mode():
        return pasts(kit, 1)


def test_two_scenes_are_another_scene_and_then_the_own_one(starts: dict[str, TrueStart]) -> None:
    """The truth continues the newer half, and the cut lies between two chunks."""
    seen, spliced = starts[SEEN], starts["two scenes"]
    assert HALF % 3 == 0
    assert torch.equal(spliced.past[HALF:], seen.past[HALF:])
    assert torch.equal(spliced.truth, seen.truth)
    apart = (spliced.past - seen.past).square().mean((1, 2, 3))
    assert (apart[:HALF] > 0.1).all()
    cut, before = ((p[HALF] - p[HALF - 1]).square().mean() for p in (spliced.past, seen.past))
    assert cut > 2 * before


def test_the_wider_clip_is_wider_than_any_in_training(starts: dict[str, TrueStart]) -> None:
    wider = starts["wider"]
    assert wider.past.shape[-1] == wider.truth.shape[-1]
    assert 8 * wider.past.shape[-1] > max(task.pool.width for task in TASKS.values())
    assert (len(wider.past), wider.prompt) == (HISTORY, starts[SEEN].prompt)


def test_settings_are_compared_clip_by_clip_saved_shown_and_plotted(tmp_path: Path) -> None:
    """Clips differ far more than settings do, so the difference has a narrow interval."""
    made = [
        {past: {"cfg": clip, "temporal": clip - 0.1, "vanilla 2": clip + more}}
        | {"wider": {"cfg": clip, "temporal": clip, "vanilla 2": clip}}
        for past, clip, more in (("two scenes", 1.0, 0.1), ("two scenes", 3.0, 0.3))
    ]
    found = unseen.summarise(made)
    less = found.against_plain["two scenes"]
    assert (less["temporal"].low, less["temporal"].high) == pytest.approx((-0.1, -0.1))
    assert less["vanilla 2"].mean == pytest.approx(0.2)
    assert found.against_plain["wider"]["temporal"].mean == 0
    found.save(tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert (saved["suite"], saved["clips"]) == ("unseen", 2)
    assert saved["figures"]["two scenes"]["cfg"]["mean"] == 2.0
    assert saved["samples"]["two scenes"]["vanilla 2"] == [1.1, 3.3]
    found.show(Console(soft_wrap=True, file=(text := io.StringIO())))
    rows = [line.split() for line in text.getvalue().splitlines()]
    assert len(rows) == 6
    assert rows[1][-3:] == ["-0.100", "[-0.100,", "-0.100]"]
    pytest.importorskip("matplotlib")
    draw(found.against_plain, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 5_000


@pytest.mark.slow
def test_every_way_makes_a_chunk_of_its_own_near_the_truth(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrow clip keeps the test short."""
    monkeypatch.setattr(unseen, "pasts", lambda kit, seed: {SEEN: true_start(kit, seed, 4)})
    assert {"cfg", "none", "vanilla 1.5", "vanilla 2", "temporal", "temporal and none 2",
            "fractional 2 at 0.75"} <= set(unseen.ways())  # fmt: skip
    with torch.inference_mode():
        [made] = unseen.distances(kit, 0).values()
        truth = true_start(kit, 0, 4).truth
    assert set(made) == set(unseen.ways())
    assert len(set(made.values())) == len(made)
    assert all(0 < distance < truth.std() for distance in made.values())
