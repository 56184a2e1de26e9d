"""`longtake convert` says which copy of the weights it wrote, where there is a choice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from longtake.headless import cli
from longtake.tests.support.model.family_files import prefix, rename, state


def told(source: Path, weights: str) -> str:
    out = source.with_name("out.safetensors")
    result = CliRunner().invoke(
        cli.main, ["convert", str(source), str(out), "--weights", weights], env={"COLUMNS": "300"}
    )
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_choice_without_effect_is_told(tmp_path: Path, weights: str) -> None:
    source = tmp_path / "self_forcing_dmd.pt"
    torch.save(rename(state(), prefix("model.")), source)
    sentence = f"--weights {weights} had no effect: the file has one copy of the weights."
    assert sentence in told(source, weights)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ("auto", ""), ("ema", ""),
        ("raw", "had no effect: the file has one copy of the weights, the averaged one (ema)."),
    ],
)  # fmt: skip
def test_an_averaged_copy_alone_is_what_ema_asks(
    tmp_path: Path, weights: str, sentence: str
) -> None:
    source = tmp_path / "self_forcing_dmd.pt"
    torch.save({"generator_ema": rename(state(), prefix("model."))}, source)
    output = told(source, weights)
    assert sentence in output and ("no effect" in output) == bool(sentence)


@pytest.mark.parametrize(
    ("weights", "name", "left"),
    [("auto", "averaged (ema)", "generator."), ("raw", "last (raw)", "generator_ema.")],
)
def test_the_copy_of_two_is_told(tmp_path: Path, weights: str, name: str, left: str) -> None:
    source = tmp_path / "self_forcing_dmd.pt"
    torch.save({"generator": state(), "generator_ema": state(seed=1)}, source)
    output = told(source, weights)
    assert f"It has the {name} weights, at 'generator" in output
    assert f"left out: '{left}" in output
