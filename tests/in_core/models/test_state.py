"""A state beside the window in a MODEL of the real core, which does not know its layers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.checkpoint import open_checkpoint
from longtake.model.config import config_from_shapes
from longtake.model.delta import clip_hooks
from longtake.model.dit import PassOptions, WanDiT, predict, project_text
from longtake.model.hooks import NO_HOOKS
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.model.other_loader import load_by_host

CONFIG = replace(SMALL, state="delta")
FRAMES, ROWS, COLUMNS = 4, 8, 12


@torch.inference_mode()
def velocity(tree: Any, absorbed: list[int]) -> Tensor:
    """One pass of our forward over a module tree whose frames read a state of earlier ones."""
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(1, FRAMES, 16, ROWS, COLUMNS, generator=seeded)
    text = project_text(tree, torch.randn(1, 1, 9, CONFIG.text_dim, generator=seeded))
    attention = WholeSequence(rotation(range(FRAMES), ROWS // 2, COLUMNS // 2, CONFIG.head_dim))
    places = rotation([0], ROWS // 2, COLUMNS // 2, CONFIG.head_dim)
    hooks = clip_hooks(tree, absorbed, places) if any(absorbed) else NO_HOOKS
    options = PassOptions(hooks=hooks)
    return predict(tree, x, torch.full((1, FRAMES), 500.0), text, attention, options).velocity


def test_the_hosts_model_gets_the_layers_of_the_state(core: Any, tmp_path: Path) -> None:
    from longtake.nodes import host

    weights, path = state(CONFIG), tmp_path / "causal.safetensors"
    save_file(weights, path)
    checkpoint = open_checkpoint(path)
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), torch.float32)
    host.claim([model], 0)
    tree = host.module_tree(model)
    assert config_from_shapes(dict(tree.named_parameters()), 2).state == "delta"
    plain = WanDiT(CONFIG)
    plain.load_state_dict(weights)
    ours, theirs = velocity(tree, [0, 0, 1, 2]), velocity(plain, [0, 0, 1, 2])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert not torch.allclose(ours, velocity(tree, [0] * FRAMES), atol=1e-2)


def test_the_hosts_own_loader_opens_the_file_without_the_state(core: Any, tmp_path: Path) -> None:
    from longtake.nodes import host

    weights, path = state(CONFIG), tmp_path / "causal.safetensors"
    sizes = {"causal_ar": True, "num_heads": CONFIG.num_heads, "text_dim": CONFIG.text_dim}
    save_file(weights, path, {"config": json.dumps({"transformer": sizes})})
    model = load_by_host(path)
    host.claim([model], 0)
    tree = host.module_tree(model)
    assert config_from_shapes(dict(tree.named_parameters()), 2).state == "none"
    shared = {name: value for name, value in weights.items() if ".delta." not in name}
    plain = WanDiT(SMALL)
    plain.load_state_dict(shared)
    ours, theirs = velocity(tree, [0] * FRAMES), velocity(plain, [0] * FRAMES)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
