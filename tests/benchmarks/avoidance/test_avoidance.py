"""`longtake bench avoidance`: what a prompt leaves out, what counts, and a small run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from longtake.benchmarks.avoidance import suite
from longtake.benchmarks.avoidance.__main__ import command
from longtake.model.text import words_of
from longtake.training.world.attributes import ATTRIBUTES, SYNONYMS, random_values


@pytest.mark.parametrize("free", suite.LEFT_OUT)
def test_a_prompt_says_every_attribute_but_one(free: str) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        values = random_values(rng)
        prompt = suite.prompt_without(free, values, rng)
        for name, value in values.items():
            said = any(phrase in prompt for phrase in SYNONYMS[name, value])
            assert said == (name != free), prompt
        assert ",," not in prompt and "ball" in words_of(prompt)


def test_a_shot_counts_what_it_avoids_apart_from_the_rest() -> None:
    readings = {name: [values[0]] * 4 for name, values in ATTRIBUTES.items()}
    readings["time"] = ["night", "night", "night", "day"]
    readings["pan"] = ["left", "right", "right", "right"]
    assert suite.most_often(readings["time"]) == "night"
    values = {name: values[0] for name, values in ATTRIBUTES.items()} | {"time": "night"}
    row = suite.row_of(readings, 9, values, "time")
    expected = {suite.AVOIDED: 0.75, suite.RIGHT: 3.25 / 4, suite.EVALUATIONS: 9.0}
    assert row == pytest.approx(expected)


def test_only_cfg_evaluates_the_model_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "LATENTS", 3)
    path = tmp_path / "out.json"
    result = CliRunner().invoke(command, ["--shots", "2", "--json", str(path)])
    assert result.exit_code == 0, result.output
    figures = json.loads(path.read_text("utf-8"))["figures"]
    assert [*figures] == [*suite.ways()]
    costs = {name: row[suite.EVALUATIONS]["mean"] for name, row in figures.items()}
    once = costs.pop(suite.PLAIN)
    assert costs.pop("cfg 2.5") > 1.5 * once
    assert set(costs.values()) == {once}
