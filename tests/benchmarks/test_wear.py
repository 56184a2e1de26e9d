"""The bench of memory rules: known balls, drifts and verdicts, and a whole run on a tiny plan."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from longtake.attention.cache.policy import WindowSink
from longtake.benchmarks import wear
from longtake.benchmarks._shared.measures import Measurement
from longtake.benchmarks._shared.records import Job, Records
from longtake.benchmarks._wear import rollout
from longtake.benchmarks._wear.balls import BallTemplate
from longtake.benchmarks._wear.cases import (
    DEFAULT,
    GUIDED,
    LONG,
    RULES,
    SHIPPED,
    SINK,
    SITUATIONS,
    TURNING,
    TWIN,
    rules_of,
)
from longtake.benchmarks._wear.plot import draw
from longtake.benchmarks._wear.results import WearResults
from longtake.benchmarks._wear.rollout import Returns, Script, WearStats, colours, script
from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.model.preset import DEMO_FOLDER
from longtake.tests.support.tenths import run_here
from longtake.training.evaluation.kit import Kit, Recipe, load_kit
from longtake.training.train_dit import build, copy_of, save
from longtake.training.world.renderer import render
from longtake.training.world.scene import Shot, scene

VALUES = {"ball": "red", "time": "day", "terrain": "hills", "weather": "clear", "pan": "left"}


@pytest.fixture(scope="module")
def kit() -> Kit:
    return load_kit(DEMO_FOLDER)


def world(values: dict[str, str], frames: int, seed: int = 3) -> torch.Tensor:
    """Render frames (t, 3, 64, 96) of a clip."""
    return render(scene([Shot(((0, values),), seed)], frames), 64, 96)[0]


@pytest.mark.parametrize("ball", ["red", "blue", "yellow", "purple"])
@pytest.mark.parametrize("time", ["day", "sunset", "night"])
def test_balls_are_counted(ball: str, time: str) -> None:
    values = {**VALUES, "ball": ball, "time": time}
    pictures = world(values, 24)[::4]
    template = BallTemplate.of(values)
    assert template.count(pictures) == [1] * 6
    bare = pictures.clone()
    bare[:] = pictures[:, :, :1]  # sky from top to bottom
    assert template.count(bare) == [0] * 6
    twice = torch.where(torch.arange(96) < 48, pictures, pictures.flip(-1))
    both = torch.cat([pictures, pictures], 3)
    assert template.count(both) == [2] * 6
    assert max(template.count(twice)) <= 2


def test_a_white_ball_is_not_judged(kit: Kit) -> None:
    """It is too like snow and clouds, so the figure would be of the landscape."""
    for ball, counted in (("white", False), ("red", True)):
        values = {**VALUES, "ball": ball}
        stats = WearStats(kit, Script(((0, "a ball"),), (values,)), torch.zeros(4))
        for first in (0, 3):
            stats.add(first, world(values, 21)[:9] if first == 0 else world(values, 21)[9:])
        assert ("missing ball" in stats.figures()) == counted


def test_a_shift_of_colours_is_a_drift_of_as_many_steps(kit: Kit) -> None:
    video = world(VALUES, 9 + 12 * 9)
    truth = colours(video).mean(0)

    def figures(shift: float) -> dict[str, float]:
        stats = WearStats(kit, Script(((0, ""),), (VALUES,)), truth)
        for i in range(10):
            frames = video[:9] if i == 0 else video[9 + 12 * (i - 1) : 9 + 12 * i]
            stats.add(3 * i, frames + shift * i / 255)
        return stats.figures()

    still, drifting = figures(0.0), figures(-4.0)
    assert abs(still["colour drift"]) < 5
    assert drifting["colour drift"] - still["colour drift"] == pytest.approx(36, abs=6)
    assert drifting["seam"] > still["seam"]
    assert still["adherence"] > 0.9
    assert still["missing ball"] == 0


def test_what_returns_after_a_turn_is_compared_with_what_was_there_before() -> None:
    shown = script(0, 72, 24)
    assert [values["pan"] for values in shown.values] == ["left", "right", "left"]
    starts = tuple((4 * at - 3 if at else 0, values) for (at, _), values
                   in zip(shown.prompts, shown.values, strict=True))  # fmt: skip
    video = render(scene([Shot(starts, 5)], 285), 64, 96)[0]
    other = render(scene([Shot(starts, 6)], 285), 64, 96)[0]
    cut = torch.cat([video[:96], other[96:]])

    def agreement(pictures: torch.Tensor) -> float:
        returns = Returns(shown, BallTemplate.of(shown.values[0]))
        for first in range(0, len(pictures), 12):
            returns.add(first, pictures[first : first + 12])
        return returns.figures()["agreement after turns"]

    assert agreement(video) > 0.99
    assert agreement(cut[:189]) < 0.8  # up to the second turn, which shows one world on both sides
    assert not Returns(script(0, 72), BallTemplate.of(VALUES)).figures()


def test_each_rule_alone_differs_from_its_control_by_the_rule() -> None:
    for name, situation in SITUATIONS.items():
        rules = rules_of(situation)
        recipes = {rule: case.apply(situation.recipe) for rule, case in rules.items()}
        assert recipes[DEFAULT].cache == WindowSink(situation.window)
        bare = {"memory": Recipe().memory, "anchor": None}
        for rule in set(rules) - {DEFAULT, SINK, LONG, "half sink"}:
            control = recipes[rules[rule].control]
            assert recipes[rule] != control
            assert replace(recipes[rule], **bare) == control
        assert ("top-aligned" in rules) == (name != TWIN)  # the twin's window fills its range
        assert len({repr(recipe) for recipe in recipes.values()}) == len(recipes)


def test_rules_together_are_one_more_case() -> None:
    chosen = ("commit forcing", "anchor 0.3", "recency")
    plan = wear.WearPlan(together=chosen, rules=("recency",))
    cases = plan.cases(GUIDED)
    joined = cases[f"{GUIDED}: {' + '.join(chosen)}"]
    assert joined.memory.commit and joined.memory.recency and joined.anchor
    assert joined.cache == WindowSink(21, 3)
    assert len(cases) == 3
    assert set(wear.WearPlan(rules=("commit forcing",)).cases(SHIPPED)) == {
        f"{SHIPPED}: {name}" for name in (DEFAULT, SINK, "commit forcing")
    }


@pytest.mark.slow
def test_a_recipe_s_rules_reach_the_engine(kit: Kit) -> None:
    """A rule that the sampler ignores would be measured to change nothing."""
    with torch.inference_mode():
        recipe = Recipe(length=24, columns=2, cache=WindowSink(9), steps=1)
        situation = replace(SITUATIONS[SHIPPED], recipe=recipe, long_window=15)
        made = {
            name: rollout.measure_wear(kit, 1, case.apply(recipe))["motion"]
            for name, case in rules_of(situation).items()
        }
    assert len(set(made.values())) == len(RULES)


def known(seed: int, better: float) -> Measurement:
    """Figures that differ far more between seeds than between cases."""
    figures = {"adherence": 0.1 * seed + better, "colour drift": 8.0 + seed - 60 * better}
    return Measurement(figures, np.zeros((0, 0)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    better = {DEFAULT: 0.0, "recency": 0.1, "anchor 0.3": -0.1}
    monkeypatch.setattr(Records, "complete", run_here)
    monkeypatch.setattr(wear, "is_trained", lambda twin: True)
    monkeypatch.setattr(
        wear, "measure_job", lambda plan, job: known(job[1], better[job[0].split(": ")[1]])
    )
    yield


@pytest.mark.usefixtures("quick")
def test_rules_are_judged_seed_by_seed_saved_shown_and_plotted(tmp_path: Path) -> None:
    results = wear.measure(
        wear.WearPlan(situations=(SHIPPED, TWIN), rules=("recency", "anchor 0.3"), rollouts=4)
    )
    assert [(d.case, d.less) for d in results.differences[:2]] == [
        (f"{SHIPPED}: recency", f"{SHIPPED}: default"),
        (f"{SHIPPED}: anchor 0.3", f"{SHIPPED}: default"),
    ]
    recency, anchor = (d for d in results.differences if d.case.startswith(SHIPPED))
    assert recency.figures["adherence"].low == pytest.approx(0.1)
    assert recency.verdicts == {"adherence": "better", "colour drift": "better"}
    assert anchor.verdicts == {"adherence": "worse", "colour drift": "worse"}
    assert {claim.text: claim.holds for claim in results.claims} == {
        f"{SHIPPED}: recency: adherence no worse by more than a point": True,
        f"{SHIPPED}: anchor 0.3: adherence no worse by more than a point": False,
        f"{TWIN}: recency: half of the colour drift is gone": True,
        f"{TWIN}: anchor 0.3: half of the colour drift is gone": False,
    }
    results.save(tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["samples"][f"{TWIN}: recency"]["3"]["colour drift"] == pytest.approx(5.0)
    results.show(Console(soft_wrap=True, file=(text := io.StringIO())))
    assert "less shipped model: default" in text.getvalue() and "FAILS" in text.getvalue()
    pytest.importorskip("matplotlib")
    draw(results, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 5_000


def test_a_measure_that_one_of_two_rollouts_lacks_is_not_compared() -> None:
    """Where the ball hides all that returns, a rollout has no agreement after turns."""
    results = WearResults(None)
    for case, names in (("a: default", ("adherence", "seam")), ("a: b", ("adherence", "motion"))):
        results.add(case, {0: Measurement(dict.fromkeys(names, 1.0), np.zeros((0, 0)))})
    difference = results.compare("a: b", "a: default")
    assert difference is not None and [*difference.figures] == ["adherence"]


@pytest.mark.usefixtures("quick")
def test_a_few_rollouts_are_not_judged() -> None:
    results = wear.measure(wear.WearPlan(situations=(SHIPPED,), rules=("recency",), rollouts=3))
    assert not results.claims and set(results.not_judged.values()) == {"not judged: 3 rollouts"}
    assert set(results.differences[0].verdicts.values()) == {"not judged"}


def test_a_twin_that_is_not_there_is_omitted_by_name(tmp_path: Path) -> None:
    plan = wear.WearPlan(situations=(TWIN,), twins=tmp_path / "none", workers=1)
    results = wear.measure(plan)
    assert not results.figures
    assert "--train --twins" in results.omitted[TWIN]


@pytest.mark.slow
def test_the_twin_s_rollouts_are_made_with_the_twin_s_weights(tmp_path: Path) -> None:
    networks = build(DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=64))
    (tmp_path / "teacher-forcing").mkdir()
    save(tmp_path / "teacher-forcing", copy_of(networks), networks)
    plan = wear.WearPlan(latents=30, twins=tmp_path)
    figures = wear.measure_job(plan, (f"{TWIN}: recency", 0)).figures
    assert figures["adherence"] < 0.9  # of random weights


def test_only_the_twin_s_record_depends_on_the_twin_s_weights(tmp_path: Path) -> None:
    """The record of another situation continues when the twin is trained meanwhile."""
    plan, twin = wear.WearPlan(latents=30, twins=tmp_path, record=tmp_path / "records"), []
    (tmp_path / "teacher-forcing").mkdir()
    for layers in (1, 2):
        networks = build(DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=layers, text_dim=64))
        save(tmp_path / "teacher-forcing", copy_of(networks), networks)
        plan.records(GUIDED).add((f"{GUIDED}: {DEFAULT}", layers), known(0, 0.0))
        twin.append(plan.made_with(TWIN))
        if layers == 1:
            plan.records(TWIN)
    assert len(plan.records(GUIDED).of(f"{GUIDED}: {DEFAULT}")) == 2
    assert twin[0] != twin[1]
    with pytest.raises(BadInput, match="choose another --record"):
        plan.records(TWIN)


@pytest.mark.parametrize("latents", [1, 29])
def test_a_rollout_without_tenths_is_refused(latents: int) -> None:
    with pytest.raises(BadInput, match="at least 30 latent frames"):
        wear.WearPlan(latents=latents)


@pytest.mark.slow
def test_a_tiny_run_is_recorded_and_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short-window situation turns once; the second run reads all rollouts from the record."""
    monkeypatch.setattr(Records, "complete", run_here)
    small = replace(SITUATIONS[TURNING], recipe=Recipe(cache=WindowSink(9), columns=4, steps=2))
    monkeypatch.setitem(wear.SITUATIONS, TURNING, small)
    out, record = tmp_path / "out.json", tmp_path / "record"
    words = ["--case", TURNING, "--rule", "anchor 0.3", "--rollouts", "1", "--latents", "48",
             "--record", str(record), "--json", str(out), "--twins", str(tmp_path)]  # fmt: skip
    first = CliRunner().invoke(wear.command, words)
    assert first.exit_code == 0, first.output
    saved = json.loads(out.read_text())
    figures = saved["samples"][f"{TURNING}: anchor 0.3"]["0"]
    assert 0 <= figures["adherence"] <= 1 and -1 <= figures["revisit agreement"] <= 1
    assert figures != saved["samples"][f"{TURNING}: default"]["0"]
    assert saved["made_with"][TURNING]["latent_frames"] == 48

    def again(plan: wear.WearPlan, job: Job) -> Measurement:
        raise AssertionError(f"{job} was measured again")

    monkeypatch.setattr(wear, "measure_job", again)
    second = CliRunner().invoke(wear.command, words)
    assert second.exit_code == 0, second.output
    assert json.loads(out.read_text())["samples"] == saved["samples"]
