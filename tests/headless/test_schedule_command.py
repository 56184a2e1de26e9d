"""`longtake schedule` takes what the Diffusion-Forcing Schedule node takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from longtake.headless.cli import main


@pytest.mark.parametrize(
    "option",
    ["--chunk-frames=9", "--chunk-frames=0", "--steps=101", "--first-steps=-1", "--shift=0",
     "--shift=101", "--stagger=-1"],
)  # fmt: skip
def test_values_that_the_node_refuses_are_wrong_usage(option: str) -> None:
    done = CliRunner().invoke(main, ["schedule", option])
    assert done.exit_code == 2 and "is not in the range" in done.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--step-list 1000,500 --steps 5", "--steps has no effect beside --step-list"),
        ("--step-list 1000,500 --first-steps 5", "--first-steps has no effect beside --step-list"),
        ("--step-list 1000 --step-preset diffusion", "--step-preset has no effect beside"),
        ("--step-preset diffusion --steps 5", "--steps has no effect beside --step-preset"),
        ("--step-list 1000,500", None),
        ("--step-preset diffusion", None),
    ],
)
def test_steps_that_another_option_leaves_without_effect_are_wrong_usage(
    words: str, sentence: str | None
) -> None:
    done = CliRunner().invoke(main, ["schedule", *words.split()])
    assert done.exit_code == (2 if sentence else 0) and (sentence or "") in done.output


def test_the_nodes_own_values_are_described() -> None:
    done = CliRunner().invoke(main, ["schedule", "--chunk-frames", "8", "--steps", "100"])
    assert done.exit_code == 0 and "causal chunks" in done.output


@pytest.mark.parametrize(
    ("family", "steps"), [([], 2), (["--family", "demo-fast"], 2), (["--family", "demo"], 8)]
)
def test_the_demo_has_the_steps_that_it_is_loaded_with(family: list[str], steps: int) -> None:
    done = CliRunner().invoke(main, ["schedule", "--first-steps", "0", "--frames", "3", *family])
    assert done.exit_code == 0 and f"clean after {steps}." in done.output


@pytest.mark.parametrize(
    ("name", "sentence", "code"),
    [
        ("levels.jpg", "must end with .png", 2),
        ("folder.png", "is a folder; name a file, such as", 1),
        ("file/levels.png", "choose another with --png", 1),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, name: str, sentence: str, code: int
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    done = CliRunner().invoke(main, ["schedule", "--png", str(tmp_path / name)])
    assert done.exit_code == code and sentence in done.stderr and done.stdout == ""
