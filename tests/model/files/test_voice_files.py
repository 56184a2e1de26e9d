"""Models that speak are recognised by their tensors, which are those that the authors check."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.checkpoint import open_checkpoint
from longtake.model.config import DiTConfig
from longtake.model.families.tensors import expected_shapes
from longtake.tests.support.model.family_files import State, speaking_state

SIZES = {
    "2bf9513c7a3e908015f11a800fc9b820": DiTConfig(1536, 8960, 12, 30, 4096, 33, 16, voice=True),
    "883a90b12576b9b8693a08cf690998dd": DiTConfig(5120, 13824, 40, 40, 4096, 33, 16, voice=True),
}
"""MD5 of all names and shapes, by which GAIR-NLP/LiveTalk 53b2c22 knows its files
(`model/wan_video_dit_omniavatar_helper.py`, `utils/io_utils.py`)."""


@pytest.mark.parametrize("digest", SIZES)
def test_names_and_sizes_are_those_of_the_authors_files(digest: str) -> None:
    shapes = expected_shapes(SIZES[digest])
    words = [f"{name}:{'_'.join(map(str, shape))}" for name, shape in shapes.items()]
    listed = ",".join(sorted([*words, *shapes])).encode()
    assert hashlib.md5(listed, usedforsecurity=False).hexdigest() == digest


def saved(folder: Path, weights: State) -> Path:
    path = folder / "model.safetensors"
    save_file(weights, path)
    return path


def test_a_file_of_any_name_is_known_by_its_tensors(tmp_path: Path) -> None:
    found = open_checkpoint(saved(tmp_path, speaking_state())).recognition
    assert (found.family.key, found.config.voice, found.unused) == ("livetalk", True, ())


def test_a_file_without_a_part_of_the_voice_is_refused(tmp_path: Path) -> None:
    weights = speaking_state()
    del weights["audio_cond_projs.0.bias"]
    with pytest.raises(BadInput, match=r"it has no audio_cond_projs\.0\.bias"):
        open_checkpoint(saved(tmp_path, weights))


def test_another_model_with_sound_is_no_livetalk(tmp_path: Path) -> None:
    weights = speaking_state()
    patches = weights["patch_embedding.weight"]
    weights["patch_embedding.weight"] = patches.repeat(1, 2, 1, 1, 1)[:, :36].contiguous()
    with pytest.raises(BadInput, match="takes 36 channels"):
        open_checkpoint(saved(tmp_path, weights))
