"""The core's fp8, MXFP8, NVFP4, int8 and int4 files, and LightX2V's, through our forward."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.checkpoint import open_checkpoint
from longtake.model.dit import predict, project_text
from longtake.tests.support.model.core_formats import FORMATS, IN_FOUR_BITS, WIDE, Format
from longtake.tests.support.model.family_files import SMALL, State, state
from longtake.tests.support.model.lightx2v_files import (
    Layer,
    file_and_meaning,
    fp8,
    int8,
    nvfp4,
    nvfp4_with_alpha,
    quantised_layers,
    wide_fp8,
)

FRAMES, ROWS, COLUMNS = 3, 8, 12
HALF = 2e-2  # the host computes in half precision


@pytest.fixture(scope="module")
def host(core: Any) -> Any:
    from longtake.nodes import host

    return host


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, FRAMES, ROWS, COLUMNS, generator=seeded)
    context = torch.randn(1, 9, SMALL.text_dim, generator=seeded)
    return x, torch.tensor([[900.0, 500.0, 20.0]]), context


@torch.inference_mode()
def ours(tree: Any) -> Tensor:
    x, t, context = inputs()
    attention = WholeSequence(rotation(range(FRAMES), ROWS // 2, COLUMNS // 2, SMALL.head_dim))
    text = project_text(tree, context.unsqueeze(1), None)
    return predict(tree, x.transpose(1, 2), t, text, attention).velocity.transpose(1, 2)


def built(host: Any, path: Path) -> Any:
    """The host's MODEL for a file."""
    checkpoint = open_checkpoint(path)
    return host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)


def loaded(host: Any, path: Path) -> Any:
    """The module tree of the host's MODEL for a file."""
    model = built(host, path)
    host.claim([model], 0)
    return host.module_tree(model)


def saved(path: Path, weights: State, **metadata: str) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata)
    return path


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


@pytest.mark.parametrize("listed", [True, False], ids=["header", "comfy_quant"])
@pytest.mark.parametrize("form", [*FORMATS, *IN_FOUR_BITS], ids=str)
@torch.inference_mode()
def test_every_format_of_the_core_runs_through_our_forward(
    host: Any, tmp_path: Path, form: Format, listed: bool
) -> None:
    """As the host's own forward, and close to the weights that the format stands for."""
    stored, plain = form.file()
    metadata = form.header() if listed else {}
    if not listed:
        text = torch.tensor([*json.dumps(form.said()).encode()], dtype=torch.uint8)
        layers = [name.removesuffix(".weight") for name in quantised_layers(plain)]
        stored |= {f"{layer}.comfy_quant": text.clone() for layer in layers}
    tree = loaded(host, saved(tmp_path / "self_forcing_quantised.safetensors", stored, **metadata))
    assert type(tree.blocks[1].ffn[0].weight).__name__ == "QuantizedTensor"
    mine, (x, t, context) = ours(tree), inputs()
    wanted = ours(loaded(host, saved(tmp_path / "self_forcing.safetensors", plain)))
    theirs = tree(x, t, context=context)
    rounded = apart(theirs, wanted)  # inputs in 4 bits turn on the last bit
    assert apart(mine, theirs) < max(HALF, rounded / 2)
    loss = apart(ours(loaded(host, saved(tmp_path / "exact.safetensors", state(WIDE)))), wanted)
    assert apart(mine, wanted) < max(HALF, loss / 2, 1.1 * rounded)


@pytest.mark.parametrize("pack", [fp8, int8, nvfp4, nvfp4_with_alpha])
@torch.inference_mode()
def test_lightx2vs_self_forcing_runs_through_our_forward(
    host: Any, tmp_path: Path, pack: Callable[[Tensor], Layer]
) -> None:
    """Its quantised weights, by this test's own unpacking, run in the same host."""
    stored, plain = file_and_meaning(state(WIDE), pack)
    tree = loaded(host, saved(tmp_path / "self_forcing_quantised.safetensors", stored))
    wanted = ours(loaded(host, saved(tmp_path / "self_forcing.safetensors", plain)))
    assert apart(ours(tree), wanted) < HALF
    x, t, context = inputs()
    assert apart(ours(tree), tree(x, t, context=context)) < HALF


@torch.inference_mode()
def test_a_marked_file_of_e5m2_keeps_its_large_numbers(host: Any, tmp_path: Path) -> None:
    stored, plain = file_and_meaning(state(WIDE), wide_fp8)
    stored["model.scaled_fp8"] = torch.zeros(2).to(torch.float8_e5m2)
    tree = loaded(host, saved(tmp_path / "self_forcing_quantised.safetensors", stored))
    wanted = ours(loaded(host, saved(tmp_path / "self_forcing.safetensors", plain)))
    assert apart(ours(tree), wanted) < HALF


@pytest.mark.parametrize("form", FORMATS[:5], ids=lambda form: form.name)
def test_a_merge_of_quantised_models_is_known_after_a_restart(
    host: Any, tmp_path: Path, form: Format
) -> None:
    """The host stores with each weight of the other model a method of its layer, to unpack it.

    That is its `get_key_patches`, but over parameters: 0.33 fails at the scales, which no layer
    holds. The model may be merged into one of plain weights too, and the other way round.
    """
    from comfy.model_patcher import get_key_weight
    from comfy.utils import get_attr as casting  # any function of the host; no weight is computed

    from longtake.nodes.models.identity import identity

    stored, _ = form.file()
    path = saved(tmp_path / "m.safetensors", stored, **form.header())
    changed = {n: t if n != "head.head.weight" else 2 * t for n, t in stored.items()}
    other_path = saved(tmp_path / "o.safetensors", changed, **form.header())

    def merge(first: Path, second: Path, share: float = 0.5) -> Any:
        """Two models, loaded anew, as the host's ModelMergeSimple merges them."""
        one, two = (built(host, each) for each in (first, second))
        for name, _ in two.model.named_parameters():
            weight, _, unpack = get_key_weight(two.model, name)
            one.add_patches({name: [(weight, unpack or casting)]}, share, 1 - share)
        return one

    exact = saved(tmp_path / "exact.safetensors", state(WIDE))
    for pair in ((path, other_path), (path, exact), (exact, path)):
        name, reason = identity(merge(*pair))
        assert reason is None
        assert identity(merge(*pair)) == (name, None)
        others = merge(path, path), merge(*pair, 0.25), built(host, path)
        assert name not in [identity(each)[0] for each in others]


@torch.inference_mode()
def test_a_lora_that_is_turned_off_leaves_a_packed_layer_as_it_was(
    host: Any, tmp_path: Path
) -> None:
    """By the live strength 0: the host packs a weight anew that has patches of strength 0."""
    form = next(form for form in FORMATS if form.name == "nvfp4")
    path = saved(tmp_path / "self_forcing.safetensors", form.file()[0], **form.header())
    model, name, size = built(host, path), "blocks.0.ffn.2", (SMALL.dim, WIDE.ffn_dim)
    pair = {"lora_up.weight": torch.ones(size[0], 1), "lora_down.weight": torch.ones(1, size[1])}
    parts = {(name, role): tensor for role, tensor in pair.items()}
    patched = host.with_lora(model, parts | {(name, "alpha"): torch.ones(())}, 0.5)

    def velocity(one: Any) -> Tensor:
        host.claim([one], 0)
        return ours(host.module_tree(one))

    own = velocity(model)
    assert apart(velocity(patched), own) > HALF
    assert torch.equal(velocity(host.with_lora_factor(patched, 0.0)), own)
