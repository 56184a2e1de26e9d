"""A loader runs again where its file was written again under the same name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from longtake.model.flashvsr.parts import USUAL_NAMES
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.model.family_files import state
from longtake.tests.support.model.flashvsr import store_parts

PARTS = {"projector": "p.pth", "decoder": "beside the model", "prompt": "beside the model"}
LOADERS = [
    ("load_model", "LoadCausalVideoModel", "diffusion_models", {"model_name": "m.pt"}),
    ("load_vace", "LoadVaceModule", "diffusion_models", {"vace_name": "m.pt", "model": None}),
    ("load_vae", "LoadWanVAE", "vae", {"vae_name": "m.pt"}),
    ("load_vae", "LoadWanVAE", "vae_approx", {"vae_name": "m.pt"}),
    ("load_lora", "LoadWanLora", "loras", {"lora_name": "m.pt", "model": None}),
    ("flashvsr.load", "LoadFlashVSR", "diffusion_models", {"model_name": "m.pt", **PARTS}),
]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with lasting_host(tmp_path / "out", lambda event: None):
        yield tmp_path / "models"


def stamp(module: str, node: str, inputs: dict[str, Any]) -> Any:
    loaders = __import__(f"longtake.nodes.models.{module}", fromlist=[node])
    return getattr(loaders, node).fingerprint_inputs(**inputs)


def write(path: Path, content: bytes, second: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (second, second))


@pytest.mark.parametrize(("module", "node", "folder", "inputs"), LOADERS)
def test_a_loader_runs_again_where_its_file_is_new(
    models: Path, module: str, node: str, folder: str, inputs: dict[str, Any]
) -> None:
    file = models / folder / "m.pt"
    missing = stamp(module, node, inputs)
    write(file, b"old", 1)
    old = stamp(module, node, inputs)
    assert missing != old == stamp(module, node, inputs)
    write(file, b"longer", 1)
    longer = stamp(module, node, inputs)
    write(file, b"longer", 2)
    assert len({str(one) for one in (old, longer, stamp(module, node, inputs))}) == 3


def test_every_shard_and_every_part_counts(models: Path) -> None:
    folder = models / "diffusion_models"
    first, second = ("sub/w-00001-of-00002.safetensors", "sub/w-00002-of-00002.safetensors")
    shards = ("load_model", "LoadCausalVideoModel", {"model_name": first})
    write(folder / first, b"a", 1)
    write(folder / second, b"b", 1)
    old = stamp(*shards)
    write(folder / second, b"b", 2)
    assert stamp(*shards) != old
    flashvsr = ("flashvsr.load", "LoadFlashVSR", {"model_name": "vsr/m.pt", **PARTS})
    write(folder / "vsr" / "m.pt", b"a", 1)
    old = stamp(*flashvsr)
    write(folder / "p.pth", b"b", 1)
    assert stamp(*flashvsr) != old
    index = ("load_model", "LoadCausalVideoModel", {"model_name": "sub/w.safetensors.index.json"})
    names = {"a": Path(first).name, "b": Path(second).name}
    listing = json.dumps({"weight_map": names}).encode()
    write(folder / "sub" / "w.safetensors.index.json", listing, 1)
    before, by_index = stamp(*shards), stamp(*index)
    for other in ("other", "w", "w-fp8-00001-of-00002", "w2"):
        write(folder / "sub" / f"{other}.safetensors", b"c", 3)
    assert (stamp(*shards), stamp(*index)) == (before, by_index)
    write(folder / "sub" / "w.safetensors.index.json", listing, 4)
    assert stamp(*shards) == before and stamp(*index) != by_index
    by_index = stamp(*index)
    write(folder / second, b"b", 4)
    assert stamp(*shards) != before and stamp(*index) != by_index


def test_flashvsr_is_read_again_for_its_parts_alone(models: Path) -> None:
    folder = models / "diffusion_models" / "vsr"
    folder.mkdir(parents=True)
    transformer = store_parts(folder).name
    inputs = {"model_name": f"vsr/{transformer}", **dict.fromkeys(PARTS, "beside the model")}
    flashvsr = ("flashvsr.load", "LoadFlashVSR", inputs)
    old = stamp(*flashvsr)
    write(folder / "notes.txt", b"notes", 1)
    write(folder / "broken.ckpt", b"not a zip", 1)
    save_file(state(), folder / "another_model.safetensors")
    assert stamp(*flashvsr) == old
    for name in USUAL_NAMES.values():
        os.utime(folder / name, (7, 7))
        assert stamp(*flashvsr) != old
        old = stamp(*flashvsr)
    chosen = ("flashvsr.load", "LoadFlashVSR", {**inputs, "prompt": "elsewhere.pth"})
    old = stamp(*chosen)
    os.utime(folder / USUAL_NAMES["prompt"], (8, 8))
    assert stamp(*chosen) == old


CONFIGURATIONS = [
    ("load_lora", "LoadWanLora", "loras", "lora_name", "adapter_config.json"),
    ("load_model", "LoadCausalVideoModel", "diffusion_models", "model_name", "config.json"),
    ("load_model", "LoadCausalVideoModel", "diffusion_models", "model_name",
     "../model_index.json"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "node", "folder", "widget", "beside"), CONFIGURATIONS)
def test_a_new_configuration_beside_the_weights_counts(
    models: Path, module: str, node: str, folder: str, widget: str, beside: str
) -> None:
    """Alpha of a LoRA and the family of a model come from there."""
    place = models / folder / "a" / "transformer"
    write(place / "adapter_model.safetensors", b"weights", 1)
    loader = (module, node, {widget: "a/transformer/adapter_model.safetensors", "model": None})
    old = stamp(*loader)
    write(place / beside, b"{}", 1)
    first = stamp(*loader)
    write(place / beside, b'{"lora_alpha": 8}', 1)
    assert len({str(one) for one in (old, first, stamp(*loader))}) == 3


def test_a_configuration_that_no_weights_read_does_not_count(models: Path) -> None:
    lora = ("load_lora", "LoadWanLora", {"lora_name": "mine.safetensors", "model": None})
    write(models / "loras" / "mine.safetensors", b"weights", 1)
    old = stamp(*lora)
    write(models / "loras" / "adapter_config.json", b"{}", 1)
    assert stamp(*lora) == old
