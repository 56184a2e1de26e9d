"""A loader runs again where its file was written again under the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longtake.tests.support.lasting_host import lasting_host

PARTS = {"projector": "p.pth", "decoder": "beside the model", "prompt": "beside the model"}
LOADERS = [
    ("load_model", "LoadCausalVideoModel", "diffusion_models", {"model_name": "m.pt"}),
    ("load_vace", "LoadVaceModule", "diffusion_models", {"vace_name": "m.pt", "model": None}),
    ("load_vae", "LoadWanVAE", "vae", {"vae_name": "m.pt"}),
    ("load_vae", "LoadWanVAE", "vae_approx", {"vae_name": "m.pt"}),
    ("load_lora", "LoadWanLora", "loras", {"lora_name": "m.pt", "model": None}),
    ("load_flashvsr", "LoadFlashVSR", "diffusion_models", {"model_name": "m.pt", **PARTS}),
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
    flashvsr = ("load_flashvsr", "LoadFlashVSR", {"model_name": "vsr/m.pt", **PARTS})
    write(folder / "vsr" / "m.pt", b"a", 1)
    for part in ("p.pth", "vsr/TCDecoder.ckpt"):
        old = stamp(*flashvsr)
        write(folder / part, b"b", 1)
        assert stamp(*flashvsr) != old
    index = ("load_model", "LoadCausalVideoModel", {"model_name": "sub/w.safetensors.index.json"})
    write(folder / "sub" / "w.safetensors.index.json", b"{}", 1)
    before, by_index = stamp(*shards), stamp(*index)
    write(folder / "sub" / "other.safetensors", b"c", 3)
    assert (stamp(*shards), stamp(*index)) == (before, by_index)
    write(folder / second, b"b", 4)
    assert stamp(*shards) != before and stamp(*index) != by_index
