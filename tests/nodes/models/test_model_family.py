"""Set Model Family under the stand-in: the settings of a MODEL that another node loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.model.families.table import BY_KEY
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.model.other_loader import load_by_host
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import random_dit

CHOICES = {"weights": "auto", "weight_dtype": "auto", "fps": "from model"}
FILE = "unnamed.safetensors"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models" / "diffusion_models"
    folder.mkdir(parents=True)
    save_file(state(), folder / FILE)
    monkeypatch.chdir(tmp_path)
    return folder / FILE


def named(bench: Bench, model: Any, family: str) -> Any:
    return bench.run("LongtakeSetModelFamily", model=model, family=family)[0]


def facts(model: Any) -> Any:
    from longtake.nodes.models.model_facts import facts

    return facts(model)


def plan(bench: Bench, model: Any) -> Any:
    """The settings of a shot whose every input is left to the model."""
    prompt = torch.zeros(1, 4, SMALL.text_dim)
    return bench.run(
        "LongtakeSampler", model=model, prompts=[[prompt, {}]], width=32, height=32, length=1.0,
        plan_only=True,
    )[0].settings  # fmt: skip


def test_a_shot_has_the_settings_that_our_own_loader_gives(bench: Bench, file: Path) -> None:
    other = load_by_host(file)
    for key in ("self-forcing", "rolling-forcing"):
        own = bench.run("LongtakeLoadModel", model_name=FILE, family=key, **CHOICES)[0]
        chosen = plan(bench, named(bench, other, key))
        theirs = plan(bench, own)
        assert chosen.schedule == theirs.schedule and chosen.cache == theirs.cache
        assert chosen.guidance == theirs.guidance
        assert chosen.schedule != plan(bench, other).schedule


def test_the_family_is_that_of_the_clone_and_of_its_clones(
    bench: Bench, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.host import progress

    texts: list[str] = []
    monkeypatch.setattr(progress, "show_text", lambda node_id, text: texts.append(text))
    other = load_by_host(file)
    known = facts(named(bench, other, "longlive").clone())
    assert known.family is BY_KEY["longlive"] and known.assumed == "LongLive 1.0: as chosen"
    assert facts(other).family.key == "wan21-t2v"
    [text] = texts
    assert text.startswith("LongLive 1.0, as chosen. Licence: ")


def test_a_name_that_says_the_family_is_no_longer_doubted(bench: Bench, file: Path) -> None:
    other = load_by_host(file.rename(file.with_name("self_forcing_dmd.safetensors")))
    assert "put Set Model Family behind that node" in facts(other).doubt
    assert not facts(named(bench, other, "self-forcing")).doubt


def test_a_model_that_keeps_a_state_keeps_it(bench: Bench, file: Path) -> None:
    from longtake.nodes.models.model_facts import attach_family

    model = load_by_host(file)
    attach_family(model, BY_KEY["wan21-t2v"].with_state(), "its tensors say so")
    assert facts(named(bench, model, "self-forcing")).preset.state


def test_a_family_of_other_inputs_is_refused(bench: Bench, file: Path) -> None:
    other = load_by_host(file)
    said = bench.refusal("LongtakeSetModelFamily", model=other, family="wan21-i2v")
    assert said.startswith("The model cannot be 'wan21-i2v': its tensors are those of t2v;")
    assert "choose one of causvid, " in said and "self-forcing" in said  # never the demo


def test_a_model_of_other_channels_has_families_of_its_own(bench: Bench) -> None:
    from longtake.headless.hosts.stand_in.models import BaseModel, Patcher

    cpu = torch.device("cpu")
    tree = random_dit(replace(SMALL, in_channels=36))
    model = Patcher(BaseModel(tree), load_device=cpu, offload_device=cpu)
    said = bench.refusal("LongtakeSetModelFamily", model=model, family="self-forcing")
    assert "its tensors are those of i2v-no-clip; choose one of wan22-i2v-a14b" in said


def test_a_pair_by_commits_alone_has_two_sets_of_weights(bench: Bench, file: Path) -> None:
    other = load_by_host(file)
    pair = {"model": other, "second_model": load_by_host(file), "boundary": -1.0}
    joined = bench.run("LongtakeModelPair", second_makes="commits", **pair)[0]
    assert facts(named(bench, joined, "sgf-plus")).family is BY_KEY["sgf-plus"]
    said = bench.refusal("LongtakeSetModelFamily", model=other, family="sgf-plus")
    assert "its tensors are those of t2v; choose one of" in said


def test_a_model_whose_file_says_its_family_is_refused(bench: Bench, file: Path) -> None:
    from longtake.model.recurrent.family import RECURRENT
    from longtake.nodes.models.model_facts import attach_family

    model = load_by_host(file)
    attach_family(model, RECURRENT, "its header says so")
    said = bench.refusal("LongtakeSetModelFamily", model=model, family="self-forcing")
    assert said == "The model is a recurrent model by its own file; take Set Model Family out."
    demo, _, _ = bench.run("LongtakeLoadDemoModel")
    said = bench.refusal("LongtakeSetModelFamily", model=demo, family="self-forcing")
    assert said.endswith(" by its own file; take Set Model Family out.")
