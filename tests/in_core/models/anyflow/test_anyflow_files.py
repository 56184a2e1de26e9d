"""An AnyFlow file in the real core, which knows neither of its two additions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.errors import BadInput
from longtake.model.anyflow.flow_map import target_hooks
from longtake.model.checkpoint import open_checkpoint
from longtake.model.config import COARSE_PATCH, PATCH, config_from_shapes
from longtake.model.dit import (
    COARSE_PATCHES,
    FINE_PATCHES,
    PassOptions,
    WanDiT,
    predict,
    project_text,
)
from longtake.model.families.table import BY_KEY
from longtake.model.lora.file import open_lora
from longtake.model.preset import overridden
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.tests.support.model.diffusers_names import to_diffusers
from longtake.tests.support.model.family_files import SMALL, State, anyflow_state, rename
from longtake.tests.support.model.other_loader import load_by_host
from longtake.tests.support.samplers.authors import preset_rollout
from longtake.tests.support.tiny_model import randn

FRAMES, ROWS, COLUMNS = 3, 8, 12
TARGET, COARSE = "delta_embedding.2.weight", "far_patch_embedding.weight"


@pytest.fixture(scope="module")
def host(core: Any) -> Any:
    from longtake.nodes import host

    return host


def stored(folder: Path, weights: State) -> Path:
    """As diffusers names the tensors, in a file whose name says nothing."""
    path = folder / "model.safetensors"
    save_file(rename(weights, to_diffusers), path)
    return path


def built(path: Path, dtype: torch.dtype | None = torch.float32) -> Any:
    from longtake.nodes.models.load_model import build_model

    return build_model(open_checkpoint(path), dtype)


@torch.inference_mode()
def seen(tree: Any, *, coarse: bool) -> Tensor:
    """The keys of a pass by our forward, which is told the end of its step."""
    x = randn(1, FRAMES, 16, ROWS, COLUMNS, seed=1)
    text = project_text(tree, randn(1, 1, 9, SMALL.text_dim, seed=2))
    side = COARSE_PATCH if coarse else PATCH
    attention = WholeSequence(rotation(range(FRAMES), ROWS // side, COLUMNS // side, 128))
    keys = list[Tensor]()

    def watch(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys.append(k)
        return attention(layer, q, k, v)

    targets = torch.full((1, FRAMES), 250.0)
    patches = COARSE_PATCHES if coarse else FINE_PATCHES
    options = PassOptions(
        hooks=target_hooks(tree, targets, x.dtype, x.device), patches=patches, whole=not coarse
    )
    predict(tree, x, torch.full((1, FRAMES), 500.0), text, watch, options)
    return torch.stack(keys)


@pytest.mark.parametrize("far", [True, False], ids=["FAR", "all at once"])
def test_the_hosts_model_gets_both_layers(host: Any, tmp_path: Path, far: bool) -> None:
    from longtake.nodes.models.model_facts import facts

    weights = anyflow_state(far=far)
    model = built(stored(tmp_path, weights))
    assert facts(model).family.key == ("anyflow-far" if far else "anyflow")
    host.claim([model], 0)
    tree = host.module_tree(model)
    config = replace(SMALL, flow_map=True, coarse_past=far)
    assert config_from_shapes(dict(tree.named_parameters()), SMALL.num_heads) == config
    assert model.model_size() >= sum(tensor.nbytes for tensor in weights.values())
    plain = WanDiT(config)
    plain.load_state_dict(weights)
    for coarse in {far, False}:
        ours = seen(plain, coarse=coarse)
        torch.testing.assert_close(seen(tree, coarse=coarse), ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_the_layers_are_the_hosts_own_in_its_dtypes(
    host: Any, tmp_path: Path, dtype: torch.dtype
) -> None:
    """The host keeps its embedding of patches in float32, and so is that of coarse ones."""
    weights = anyflow_state(far=True)
    tree = host.module_tree(built(stored(tmp_path, weights), dtype))
    delta, coarse = tree.delta_embedding[2], tree.far_patch_embedding
    assert type(delta) is type(tree.time_embedding[2]) and delta.weight.dtype == dtype
    assert type(coarse) is type(tree.patch_embedding) is not nn.Conv3d
    assert coarse.weight.dtype == tree.patch_embedding.weight.dtype
    assert torch.equal(delta.weight.float(), weights[TARGET].to(dtype).float())
    kept = weights[COARSE].to(coarse.weight.dtype)
    assert torch.equal(coarse.weight, kept)


@torch.inference_mode()
def test_a_shot_on_the_hosts_model_is_that_on_our_own_tree(host: Any, tmp_path: Path) -> None:
    """By the preset, past the border of what is coarse."""
    from longtake.nodes.runtime.resolved_model import denoiser

    weights = anyflow_state(far=True)
    engine: Denoiser = denoiser(built(stored(tmp_path, weights)))
    config = replace(SMALL, flow_map=True, coarse_past=True)
    assert engine.config == config
    plain = WanDiT(config)
    plain.load_state_dict(weights)
    text, latents = randn(9, config.text_dim, seed=4), torch.zeros(13, 16, ROWS, COLUMNS)
    preset = overridden(BY_KEY["anyflow-far"].preset, steps=2)
    shots = [
        preset_rollout(text, latents, model, preset)
        for model in (local_denoiser(plain.eval(), config), engine)
    ]
    torch.testing.assert_close(*shots, rtol=0, atol=1e-4)


def test_the_hosts_own_loader_leaves_the_layers_out_and_the_family_is_refused(
    host: Any, tmp_path: Path
) -> None:
    """A GGUF loader does so too."""
    from longtake.nodes.models.model_family import SetModelFamily

    weights = anyflow_state(far=True, text_dim=4096)
    save_file(weights, tmp_path / "anyflow.safetensors")
    model = load_by_host(tmp_path / "anyflow.safetensors")
    with pytest.raises(BadInput, match="cannot be 'anyflow-far': its tensors are those of t2v"):
        SetModelFamily.execute(model, "anyflow-far")


@torch.inference_mode()
def test_a_lora_changes_layers_of_wan_and_of_anyflow(host: Any, tmp_path: Path) -> None:
    weights = anyflow_state(far=True)
    model, names = built(stored(tmp_path, weights)), ["blocks.1.ffn.0", TARGET.rpartition(".")[0]]
    pairs, expected = {}, {}
    for i, name in enumerate(names):
        rows, columns = weights[f"{name}.weight"].shape
        up, down = randn(rows, 4, seed=i), randn(4, columns, seed=i + 9)
        prefix = f"transformer.{to_diffusers(name)}.lora"
        pairs |= {f"{prefix}_B.weight": up, f"{prefix}_A.weight": down}
        expected[f"{name}.weight"] = weights[f"{name}.weight"] + 0.5 * up @ down
    save_file(pairs, tmp_path / "lora.safetensors")
    lora = open_lora(tmp_path / "lora.safetensors", host.layer_shapes(model))
    assert not lora.unused
    patched = host.with_lora(model, lora.parts, 0.5)
    host.claim([patched], 0)
    tree = host.module_tree(patched)
    for name, tensor in expected.items():
        torch.testing.assert_close(tree.get_parameter(name), tensor, atol=1e-5, rtol=1e-5)
