"""Files that hold two sets of weights: Self Gradient Forcing Plus."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from longtake.errors import BadInput
from longtake.headless.commands.convert import Conversion, convert
from longtake.model.checkpoint import load_dit, open_checkpoint
from longtake.model.families.memory import memory_plan
from longtake.tests.support.model.family_files import twin_state


@pytest.mark.parametrize(
    ("folder", "key"), [("chunkwise", "sgf-plus"), ("framewise", "sgf-plus-framewise")]
)
def test_a_file_with_a_twin_is_two_models(tmp_path: Path, folder: str, key: str) -> None:
    own, twin, stored = twin_state()
    path = tmp_path / folder / "model.pt"
    path.parent.mkdir()
    torch.save({"generator_ema": stored}, path)
    checkpoint = open_checkpoint(path)
    assert checkpoint.recognition.family.key == key and not checkpoint.recognition.unused
    assert checkpoint.twin is not None and checkpoint.twin.twin is None
    for expected, part in ((own, checkpoint), (twin, checkpoint.twin)):
        tensors = part.state()
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    both, one = (
        memory_plan(model, 832, 480).weight_bytes
        for model in (checkpoint.recognition, checkpoint.twin.recognition)
    )
    assert both == 2 * one
    with pytest.raises(BadInput, match="two sets of weights"):
        load_dit(path)
    with pytest.raises(BadInput, match="two sets of weights"):
        convert(checkpoint, tmp_path / "o.safetensors", Conversion(), lambda done, total: None)


def test_half_a_twin_is_refused(tmp_path: Path) -> None:
    _, _, stored = twin_state()
    del stored["model.blocks.1.cross_attn.norm_k.memory_weight"]
    path = tmp_path / "model.pt"
    torch.save({"generator_ema": stored}, path)
    with pytest.raises(BadInput, match="no whole 2-layer Wan model"):
        open_checkpoint(path)
