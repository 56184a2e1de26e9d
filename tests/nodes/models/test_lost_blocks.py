"""A MODEL of another node that lacks its last blocks is said to, unless its file states so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.model.config import DiTConfig
from longtake.model.families.table import BY_KEY
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.tiny_model import random_dit

WHOLE = DiTConfig(dim=192, ffn_dim=512, num_heads=3, num_layers=6, text_dim=64)
SAID = (
    "The model has 5 blocks, and the demo has 6, so its file may lack the last ones and give "
    "noise; download it again."
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with lasting_host(tmp_path / "out", lambda event: None):
        yield tmp_path


def model(blocks: int, path: Path | None = None) -> Any:
    """A MODEL as a node of others makes it, which tells its file or not."""
    from longtake.headless.hosts.stand_in.models import BaseModel, Patcher

    cpu, tree = torch.device("cpu"), random_dit(replace(WHOLE, num_layers=blocks))
    patcher = Patcher(BaseModel(tree), load_device=cpu, offload_device=cpu)
    if path is not None:
        patcher.cached_patcher_init = Patcher, (str(path),)
    return patcher


def losses(of: Any) -> tuple[str, ...]:
    from longtake.nodes.runtime.resolved_model import ResolvedModel

    return ResolvedModel.of(of).losses


def test_lost_blocks_are_said_in_the_plan() -> None:
    from longtake.nodes.runtime.resolved_model import ResolvedModel
    from longtake.nodes.sampling.shot_warnings import _model_warnings

    assert losses(model(6)) == ()
    assert losses(model(5)) == (SAID,)
    assert SAID in _model_warnings(ResolvedModel.of(model(5)))


def test_the_second_model_of_a_pair_is_looked_at_too() -> None:
    from longtake.nodes.models.pair import pair
    from longtake.samplers.denoiser import Commits

    assert losses(pair(model(6), model(5), Commits())) == (SAID,)


def test_a_pruned_model_whose_file_or_folder_states_its_depth_is_whole(folder: Path) -> None:
    path = folder / "m.safetensors"
    weights = {"blocks.0.ffn.0.weight": torch.ones(1)}
    save_file(weights, path)
    assert losses(model(5, path)) == (SAID,)
    (folder / "config.json").write_text(json.dumps({"dim": 192, "num_layers": 5}))
    assert losses(model(5, path)) == ()
    (folder / "config.json").unlink()
    header = {"config": json.dumps({"transformer": {"num_layers": 5}})}
    save_file(weights, path, metadata=header)
    assert losses(model(5, path)) == ()


def test_a_file_that_only_its_own_node_opens_is_no_reason_to_stop(folder: Path) -> None:
    (folder / "m.other").write_bytes(b"weights")
    assert losses(model(5, folder / "m.other")) == (SAID,)
    assert losses(model(5, folder / "gone.safetensors")) == (SAID,)


def test_our_own_loaders_have_looked_already() -> None:
    from longtake.nodes.models.model_facts import attach_family

    known = model(5)
    attach_family(known, BY_KEY["demo"], "its header is the demo's")
    assert losses(known) == ()
