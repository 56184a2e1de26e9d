"""Load Demo Model: each quality has its own weights and steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from longtake.headless.cli import main
from longtake.model.checkpoint import open_checkpoint
from longtake.model.preset import DEMO, DEMO_FAST, DEMO_FOLDER, FAST_FOLDER
from longtake.tests.support.node_bench import Bench
from longtake.training.evaluation.kit import preset_in

STEPS = {"fast": (2, 6, 1.25), "full": (8, 8, 1.5)}


@pytest.mark.parametrize("quality", [*STEPS])
def test_a_quality_has_its_steps(bench: Bench, quality: str) -> None:
    from longtake.nodes.models.model_facts import facts

    model, _, _ = bench.run("LongtakeLoadDemoModel", quality=quality)
    preset = facts(model).preset
    assert (preset.steps, preset.first_steps, preset.shift) == STEPS[quality]


@pytest.mark.parametrize(
    ("number", "part", "said"),
    [(1, "clip_layer", "text encoder has no `clip_layer`"), (2, "get_sd", "VAE has no `get_sd`")],
)
def test_what_a_node_asks_of_the_demo_in_vain_is_one_sentence(
    bench: Bench, number: int, part: str, said: str
) -> None:
    """CLIP Set Last Layer and Save VAE ask for these."""
    demo = bench.run("LongtakeLoadDemoModel")[number]
    with pytest.raises(AttributeError, match=f"^The demo's {said}.*; connect Load Demo Model to "):
        getattr(demo, part)


def test_the_demos_clip_is_cloned_as_set_clip_hooks_does(bench: Bench) -> None:
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    twin = clip.clone(disable_dynamic=True)
    assert twin.encode("a red ball").equal(clip.encode("a red ball"))
    with pytest.raises(AttributeError, match="has no `patcher`"):
        _ = twin.patcher.forced_hooks


@pytest.mark.usefixtures("bench")
def test_the_schedules_tooltips_give_the_demos_own_numbers() -> None:
    from longtake.nodes.sampling.schedule import DiffusionForcingSchedule

    tips = {each.id: each.tooltip for each in DiffusionForcingSchedule.define_schema().inputs}
    (steps, _, shift), (full_steps, _, full_shift) = STEPS["fast"], STEPS["full"]
    assert f"{steps} for the demo (`full`: {full_steps})" in tips["steps"]
    assert f"{shift} for the demo (`full`: {full_shift})" in tips["shift"]


def test_each_quality_loads_its_own_file(
    bench: Bench, tiny_demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.models import load_demo

    opened = list[Path]()

    def opening(path: Path) -> object:
        opened.append(path.relative_to(tiny_demo_folder))
        return open_checkpoint(path)

    monkeypatch.setattr(load_demo, "open_checkpoint", opening)
    for quality in STEPS:
        bench.run("LongtakeLoadDemoModel", quality=quality)
    assert [path.as_posix() for path in opened] == ["fast/dit.safetensors", "dit.safetensors"]


def test_the_shipped_student_says_what_it_is() -> None:
    """So that Load Causal Video Model does not take it for its teacher."""
    assert preset_in(FAST_FOLDER) == DEMO_FAST != DEMO


@pytest.mark.parametrize(("quality", "folder"), [("fast", FAST_FOLDER), ("full", DEMO_FOLDER)])
def test_inspect_says_the_steps_that_the_loader_takes(quality: str, folder: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(folder / "dit.safetensors")])
    steps, first, _ = STEPS[quality]
    assert result.exit_code == 0, result.output
    assert f"steps {steps} even" in result.output and f"first chunk {first} even" in result.output


def test_the_demo_is_measured_in_the_steps_that_it_was_trained_for() -> None:
    assert preset_in(DEMO_FOLDER) == DEMO
