"""Load Causal Video Model under the stand-in: from a file of models/ to a MODEL that generates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.families.table import BY_KEY
from longtake.samplers.guidance import cfg
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.model.family_files import (
    SMALL,
    fps_state,
    prefix,
    rename,
    state,
)
from longtake.tests.support.model.other_loader import load_by_host
from longtake.tests.support.tiny_model import random_dit, settings

CHOICES = {"family": "auto", "weights": "auto", "weight_dtype": "auto", "fps": "from model"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    models = tmp_path / "models" / "diffusion_models"
    models.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with lasting_host(tmp_path / "out", lambda event: None):
        yield models


def load(name: str, **changes: str) -> Any:
    from longtake.headless.hosts.stand_in.io_types import HiddenHolder
    from longtake.nodes.models.load_model import LoadCausalVideoModel

    node = type("Prepared", (LoadCausalVideoModel,), {"hidden": HiddenHolder(unique_id="1")})
    return node.execute(model_name=name, **CHOICES | changes).args[0]


def test_the_files_of_the_models_folder_can_be_chosen(folder: Path) -> None:
    save_file(state(), folder / "a.safetensors")
    (folder / "sub").mkdir()
    torch.save(state(), folder / "sub" / "b.pt")
    (folder / "notes.txt").write_text("x")
    from longtake.nodes.models.load_model import LoadCausalVideoModel

    choice = LoadCausalVideoModel.define_schema().inputs[0]
    assert choice.options == ["a.safetensors", "sub/b.pt"]


def test_a_model_carries_its_family_through_clones(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"generator_ema": rename(state(), prefix("model."))}, folder / "rewardforcing.pt")
    with caplog.at_level("INFO", "longtake"):
        model = load("rewardforcing.pt")
    from longtake.nodes.models.model_facts import facts

    assert facts(model.clone()).family.key == "reward-forcing"
    assert facts(model.clone()).why == "its name has 'rewardforcing' (weights do not tell)"
    said = " ".join(record.message for record in caplog.records)
    assert "Reward Forcing. architecture: t2v" in said and "Licence: Apache-2.0" in said
    for name, value in state().items():
        assert torch.equal(model.model.diffusion_model.state_dict()[name], value)


def test_a_name_that_says_few_steps_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(state(), folder / "wan_fusionx.safetensors")
    load("wan_fusionx.safetensors")
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning == (
        "Its name has 'fusionx', so it may be distilled to few steps; Wan 2.1 text to video takes "
        "50 at cfg 5. Set cfg 1 and its author's number of steps, or choose the family "
        "stepdistill-t2v (4 steps)."
    )


def test_a_model_of_another_loader_is_taken_for_what_it_shows(folder: Path) -> None:
    from longtake.nodes.models.model_facts import facts

    save_file(state(), folder / "a.safetensors")
    plain = facts(load_by_host(folder / "a.safetensors"))
    assert (plain.family.key, plain.why) == (
        "wan21-t2v",
        "assumed, because another node loaded the model",
    )


@pytest.mark.parametrize(
    ("inputs", "outputs", "clip", "key"),
    [
        (16, 16, False, "wan21-t2v"),
        (36, 16, True, "wan21-i2v"),
        (36, 16, False, "wan22-i2v-a14b"),
        (48, 48, False, "wan22-ti2v-5b"),
        (148, 48, False, "wan21-t2v"),  # of no family; the sampler refuses its channels
    ],
)
def test_a_model_of_another_loader_has_the_preset_of_its_architecture(
    folder: Path, inputs: int, outputs: int, clip: bool, key: str
) -> None:
    """A Wan 2.2 5B of a GGUF loader makes 24 frames a second, and not Wan 2.1's 16."""
    from longtake.headless.hosts.stand_in.models import BaseModel, Patcher
    from longtake.nodes.models.model_facts import facts

    tree = random_dit(replace(SMALL, in_channels=inputs, out_channels=outputs))
    if clip:
        tree.blocks[0].cross_attn.k_img = torch.nn.Linear(SMALL.dim, SMALL.dim)
    cpu = torch.device("cpu")
    known = facts(Patcher(BaseModel(tree), load_device=cpu, offload_device=cpu))
    assert (known.family.key, known.preset) == (key, BY_KEY[key].preset)
    assert known.why == "assumed, because another node loaded the model"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("causvid", "CausVid"),
        ("longlive_base", "LongLive 1.0"),
        ("self_forcing_dmd", "Self-Forcing"),
        ("wan2.2_t2v_high_noise_14B", "Wan 2.2 A14B text to video"),
    ],
)
def test_a_family_in_the_name_of_another_loaders_file_is_warned_of(
    folder: Path, name: str, title: str
) -> None:
    """Its settings would be those of plain Wan: many steps, all frames of a shot together."""
    from longtake.nodes.models.model_facts import facts
    from longtake.nodes.sampling.training_limits import out_of_distribution_warnings

    save_file(state(), folder / f"{name}.safetensors")
    known = facts(load_by_host(folder / f"{name}.safetensors"))
    assert known.family.key == "wan21-t2v"
    size = {"settings": settings(guidance=cfg(5.0)), "size": (832, 480)}
    [warning] = out_of_distribution_warnings(known, **size)
    assert warning == (
        f"The model's file is {title} by its name, and another node loaded it as Wan 2.1 text to "
        "video; put Set Model Family behind that node, or load it by Load Causal Video Model."
    )


def test_a_family_of_another_size_in_the_name_is_not_warned_of(folder: Path) -> None:
    from longtake.nodes.models.model_facts import facts

    save_file(state(), folder / "krea-realtime-video-14b.safetensors")
    assert not facts(load_by_host(folder / "krea-realtime-video-14b.safetensors")).doubt


def test_few_steps_in_the_name_of_another_loaders_file_are_warned_of(folder: Path) -> None:
    from longtake.nodes.models.model_facts import facts
    from longtake.nodes.sampling.training_limits import out_of_distribution_warnings

    save_file(state(), folder / "Wan_Lightning.safetensors")
    known = facts(load_by_host(folder / "Wan_Lightning.safetensors"))
    size = {"settings": settings(guidance=cfg(5.0)), "size": (832, 480)}
    [warning] = out_of_distribution_warnings(known, **size)
    assert warning == (
        "Its name has 'lightning', so it may be distilled to few steps; Wan 2.1 text to video "
        "takes 50 at cfg 5. Set cfg 1 and its author's number of steps, or load it by Load Causal "
        "Video Model."
    )
    assert out_of_distribution_warnings(known, **size | {"settings": settings()}) == []


def test_fps_chooses_the_rate_that_skyreels_is_told(folder: Path) -> None:
    save_file(state() | fps_state(SMALL.dim), folder / "skyreels.safetensors")
    biases = [
        load("skyreels.safetensors", fps=fps).model.diffusion_model.time_projection[1].bias
        for fps in ("from model", "24", "16")
    ]
    assert torch.equal(biases[0], biases[1]) and not torch.equal(biases[0], biases[2])


@pytest.mark.parametrize(("fps", "rate"), [("from model", 24), ("24", 24), ("16", 16)])
def test_the_chosen_rate_is_that_of_everything_made_with_the_model(
    folder: Path, fps: str, rate: int
) -> None:
    from longtake.nodes.models.model_facts import facts

    save_file(state() | fps_state(SMALL.dim), folder / "skyreels.safetensors")
    known = facts(load("skyreels.safetensors", fps=fps).clone())
    assert (known.preset.fps, known.family.key) == (rate, "skyreels-df-fps")
    save_file(state(), folder / "self_forcing.safetensors")
    assert facts(load("self_forcing.safetensors", fps="24")).preset.fps == 16  # has one rate


def test_a_shot_at_one_rate_is_not_continued_by_the_model_of_another(folder: Path) -> None:
    from longtake.nodes.models.identity import identity

    save_file(state() | fps_state(SMALL.dim), folder / "skyreels.safetensors")
    slow, fast, again = (identity(load("skyreels.safetensors", fps=f)) for f in ("16", "24", "24"))
    assert slow != fast and fast == again


@pytest.mark.parametrize("layer", ["blocks.0.ffn.0", "head.head", "text_embedding.2"])
def test_a_merge_into_any_layer_makes_another_model(folder: Path, layer: str) -> None:
    from longtake.nodes.models.identity import identity

    weights = state(replace(SMALL, num_layers=5))
    save_file(weights, folder / "plain.safetensors")
    save_file(weights | {f"{layer}.weight": weights[f"{layer}.weight"] * 1.01},
              folder / "merged.safetensors")  # fmt: skip
    assert identity(load("plain.safetensors")) != identity(load("merged.safetensors"))


def test_what_the_model_has_no_use_for_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(state() | {"blocks.0.gate.weight": torch.zeros(2)}, folder / "odd.safetensors")
    load("odd.safetensors")
    assert "1 tensors of the file are not used, for example blocks.0.gate.weight" in caplog.text


def test_a_file_that_went_away_is_one_sentence(folder: Path) -> None:
    with pytest.raises(BadInput, match="'gone.pt' is no longer in the diffusion_models folder"):
        load("gone.pt")


def test_the_header_of_a_causal_model_is_the_one_that_the_core_reads(tmp_path: Path) -> None:
    from longtake.model.checkpoint import open_checkpoint

    for name, causal in (("self_forcing.safetensors", True), ("wan21.safetensors", False)):
        layers = {"layers": {"model.blocks.0.ffn.0": {"format": "float8_e4m3fn"}}}
        save_file(
            rename(state(), prefix("model.")),
            tmp_path / name,
            {"_quantization_metadata": json.dumps(layers)},
        )
        made = open_checkpoint(tmp_path / name).metadata()
        said = json.loads(made.get("config", "{}")).get("transformer", {})
        assert said.get("causal_ar", False) == causal
        assert list(json.loads(made["_quantization_metadata"])["layers"]) == ["blocks.0.ffn.0"]
