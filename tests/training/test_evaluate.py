"""The parts of `training.evaluate` that judge a memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from longtake.attention.cache.policy import CachePolicy, WindowSink
from longtake.attention.recall.window import RecallWindow
from longtake.model.preset import DEMO, DEMO_FAST, DEMO_FOLDER, FAST_FOLDER
from longtake.model.preset_cache import preset_cache
from longtake.training import evaluate
from longtake.training.evaluate import QUICK, EvaluationJob, of_returns
from longtake.training.evaluation.kit import Kit, Recipe, load_kit
from longtake.training.evaluation.measures import Rows
from longtake.training.evaluation.returns import OFF, TRUTH, CameraTurn

SHORT = Recipe(steps=1, first_steps=1)
JOB = EvaluationJob(DEMO_FOLDER, QUICK, 1, SHORT)
TURNS = {"NEAR": CameraTurn(12, 6), "MIDDLE": CameraTurn(15, 6), "FAR": CameraTurn(18, 9)}
ENTERING, WHOLE = (
    "scenery that returns, one chunk after a true history, by M",
    "scenery that returns, the whole way back after 12 away, by M",
)


def in_turn(
    measure: Callable[[Kit, int], dict[str, float]], seeds: Sequence[int], folder: Path, _: int
) -> list[dict[str, float]]:
    kit = load_kit(folder)
    return [measure(kit, seed) for seed in seeds]


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "spread", in_turn)
    for name, turn in TURNS.items():
        monkeypatch.setattr(evaluate, name, turn)


def rows_of(cache: CachePolicy) -> dict[str, Rows]:
    return dict(of_returns(JOB, cache, "M"))


def test_a_memory_that_recalls_is_judged_with_wrong_frames_too() -> None:
    rows = rows_of(RecallWindow(9, 0, 3, by="view", archive_frames=24, flat_world=True))
    assert [*rows] == [ENTERING, WHOLE]
    ways = (TRUTH, "M", "M, frames shuffled")
    held = {"M, resident, MB", "M, archived, MB"}
    assert {*rows[ENTERING]} == held | {f"{a} away, {way}" for a in (12, 15, 18) for way in ways}
    assert {*rows[WHOLE]} == {f"{way}{end}" for way in ways for end in ("", OFF)}
    clips = {name: len(values) for name, values in rows[ENTERING].items()}
    assert clips["12 away, M"] == clips["15 away, M"] == QUICK.returns
    assert clips["18 away, M"] == QUICK.far_returns == 1
    assert rows[ENTERING]["M, archived, MB"][0] > 0
    assert rows[ENTERING]["18 away, M"] != rows[ENTERING]["18 away, M, frames shuffled"]


def test_a_memory_that_forgets_has_no_frames_to_shuffle() -> None:
    rows = rows_of(WindowSink(9))
    assert not any("shuffled" in name for part in rows.values() for name in part)
    assert rows[ENTERING]["M, archived, MB"] == [0.0]


def test_the_default_memory_is_the_demos(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = list[tuple[CachePolicy, str]]()

    def note(job: EvaluationJob, cache: CachePolicy, name: str) -> list[tuple[str, Rows]]:
        judged.append((cache, name))
        return [("returns", {"row": [1.0]})]

    monkeypatch.setattr(evaluate, "of_returns", note)
    for part in ("the_vae", "prompts", "long_rollouts", "looks", "the_camera"):
        monkeypatch.setattr(evaluate, f"_of_{part}", lambda job: ())
    assert [*evaluate.measure(JOB)] == ["returns"]
    assert judged == [(preset_cache(DEMO), "the default memory")]


def test_weights_are_measured_with_their_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = list[EvaluationJob]()
    monkeypatch.setattr(evaluate, "measure", jobs.append)
    for words in ([], ["--folder", str(DEMO_FOLDER)], ["--steps", "5"]):
        assert CliRunner().invoke(evaluate.main, ["--quick", *words]).exit_code == 0
    chosen = [(job.recipe.steps, job.recipe.first_steps, job.recipe.shift) for job in jobs]
    fast, full = ((p.steps, p.first_steps, p.shift) for p in (DEMO_FAST, DEMO))
    assert chosen == [fast, full, (5, *fast[1:])]
    assert [job.folder for job in jobs] == [FAST_FOLDER, DEMO_FOLDER, FAST_FOLDER]
