"""A file without its last blocks is refused: by its tensors it is a whole, shallower model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.model.checkpoint import open_checkpoint
from longtake.model.config import DiTConfig
from longtake.model.families.depth import PUBLISHED
from longtake.model.preset import DEMO_FOLDER, FAST_NAME
from longtake.tests.support.model.family_files import SIZES, header_only, official_shapes

REAL = [size for size in SIZES if "-" not in size or "I2V" in size]
COUNT = "num_layers"


def shallow(path: Path, size: str = "1.3B", lost: int = 1, **metadata: str) -> Path:
    """A file of a published size without its last blocks."""
    return header_only(path, official_shapes(size, SIZES[size][2] - lost), **metadata)


@pytest.mark.parametrize("size", SIZES)
def test_every_published_size_has_its_known_depth(tmp_path: Path, size: str) -> None:
    dim, ffn, depth, *_ = SIZES[size]
    assert PUBLISHED[dim, ffn][1] == depth
    path = header_only(tmp_path / "m.safetensors", official_shapes(size))
    assert open_checkpoint(path).recognition.config.num_layers == depth


@pytest.mark.parametrize("size", REAL)
@pytest.mark.parametrize("lost", [1, 7])
def test_a_file_without_its_last_blocks_is_refused_with_both_numbers(
    tmp_path: Path, size: str, lost: int
) -> None:
    path, depth = shallow(tmp_path / "m.safetensors", size, lost), SIZES[size][2]
    with pytest.raises(BadInput) as caught:
        open_checkpoint(path)
    assert f"{path} holds {depth - lost} blocks, and a Wan model of" in str(caught.value)
    assert f" has {depth}; download it again" in str(caught.value)


def test_the_demo_has_its_depth() -> None:
    for file in (DEMO_FOLDER / "dit.safetensors", DEMO_FOLDER / FAST_NAME / "dit.safetensors"):
        config: DiTConfig = open_checkpoint(file).recognition.config
        assert PUBLISHED[config.dim, config.ffn_dim] == ("the demo", config.num_layers)


@pytest.mark.parametrize("width", [
    {"dim": 1536}, {"num_attention_heads": 12, "attention_head_dim": 128},
])  # fmt: skip
def test_a_pruned_model_that_states_its_depth_is_whole(
    tmp_path: Path, width: dict[str, int]
) -> None:
    path = shallow(tmp_path / "m.safetensors", lost=6)
    beside = tmp_path / "config.json"
    beside.write_text(json.dumps({**width, COUNT: 24}))
    assert open_checkpoint(path).recognition.config.num_layers == 24
    beside.write_text(json.dumps({**width, COUNT: 25}))
    with pytest.raises(BadInput, match="holds 24 blocks, and its configuration has 25"):
        open_checkpoint(path)


@pytest.mark.parametrize("other", [
    {"dim": 5120, COUNT: 24}, {COUNT: 24}, {"dim": "wide", COUNT: 24}, {"dim": 1536}, [],
    {"dim": 1536, COUNT: None}, {"num_attention_heads": None, COUNT: 24},
])  # fmt: skip
def test_the_configuration_of_another_model_says_nothing(tmp_path: Path, other: object) -> None:
    path = shallow(tmp_path / "m.safetensors", lost=6)
    (tmp_path / "config.json").write_text(json.dumps(other))
    with pytest.raises(BadInput, match="a Wan model of 1.3B has 30"):
        open_checkpoint(path)


def test_a_header_states_the_depth_too_and_a_conversion_keeps_it(tmp_path: Path) -> None:
    """A converted file leaves the folder, whose config.json said that it is whole."""
    header = json.dumps({"transformer": {COUNT: 24}})
    stated = shallow(tmp_path / "a.safetensors", lost=6, config=header)
    assert open_checkpoint(stated).recognition.config.num_layers == 24
    path = shallow(tmp_path / "b" / "m.safetensors", lost=6)
    (tmp_path / "b" / "config.json").write_text(json.dumps({"dim": 1536, COUNT: 24}))
    kept = json.loads(open_checkpoint(path).metadata()["config"])
    assert kept["transformer"][COUNT] == 24
    whole = header_only(tmp_path / "whole.safetensors", official_shapes("1.3B"))
    assert "config" not in open_checkpoint(whole).metadata()


def test_a_gap_in_the_numbers_of_blocks_is_named(tmp_path: Path) -> None:
    shapes = {n: s for n, s in official_shapes("1.3B").items() if not n.startswith("blocks.17.")}
    with pytest.raises(BadInput, match=r"no whole 30-layer Wan model: it has no blocks\.17\."):
        open_checkpoint(header_only(tmp_path / "m.safetensors", shapes))


@pytest.mark.parametrize("last", ["blocks.29.modulation", "blocks.29.ffn.2.bias"])
def test_a_block_without_one_tensor_is_named(tmp_path: Path, last: str) -> None:
    shapes = {n: s for n, s in official_shapes("1.3B").items() if n != last}
    with pytest.raises(BadInput, match=f"it has no {last}"):
        open_checkpoint(header_only(tmp_path / "m.safetensors", shapes))
