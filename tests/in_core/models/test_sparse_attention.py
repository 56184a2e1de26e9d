"""ANN-Sparse Attention on the host's own sampling of a Wan model that sees the whole sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity

SIZES = {
    "model_type": "t2v", "dim": 48, "ffn_dim": 64, "num_heads": 4, "num_layers": 3,
    "text_dim": 16, "text_len": 24, "in_dim": 16, "out_dim": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def tree(core: Any) -> Any:
    """The host's own bidirectional Wan transformer, small and random."""
    import comfy.ops
    from comfy.ldm.wan.model import WanModel

    torch.manual_seed(0)
    tree = WanModel(**SIZES, operations=comfy.ops.disable_weight_init).eval()
    for parameter in tree.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return tree.requires_grad_(False)


@torch.inference_mode()
def velocity(tree: Any, override: Any, sigma: float = 0.4) -> Tensor:
    """The model's own forward on 768 tokens, with an override of attention."""
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 6, 16, 32, generator=seeded)
    context = torch.zeros(1, 24, 16)
    context[:, :7] = torch.randn(1, 7, 16, generator=seeded)
    of_run = torch.tensor([0.9, 0.4, 0.0])  # as the host's samplers pass it along
    options: dict[str, Any] = {"sigmas": torch.tensor([sigma]), "sample_sigmas": of_run}
    if override is not None:
        options["optimized_attention_override"] = override
    t = torch.tensor([1000 * sigma])
    return tree(x, t, context=context, transformer_options=options)


def override(density: float, previous: Any = None) -> Any:
    """Sparse from the second layer on, whatever the recall."""
    from longtake.nodes.attention.override import AttentionOverride

    self_sparsity = SparseSelf(density, 0.3, (0,), 0.0, min_keys=0)
    return AttentionOverride(Sparsity(self_sparsity, SparseCross(from_tokens=0)), previous)


def test_reading_every_block_gives_the_hosts_own_result(core: Any, tree: Any) -> None:
    plain, sparse = velocity(tree, None), velocity(tree, override(1.0))
    assert float((sparse - plain).norm() / plain.norm()) < 1e-4


def test_a_low_density_leaves_out_keys_and_calls_what_was_there_for_the_rest(
    core: Any, tree: Any
) -> None:
    calls = []

    def before(func: Any, *given: Any, **named: Any) -> Tensor:
        calls.append(named["transformer_options"]["block_index"])
        return func(*given, **named)

    few = override(0.2, before)
    plain, sparse = velocity(tree, None), velocity(tree, few)
    off = float((sparse - plain).norm() / plain.norm())
    assert 1e-4 < off < 0.5
    assert calls == [0]  # the dense layer's self-attention
    assert few.stats.density == pytest.approx((1 + 0.2 + 0.2) / 3, abs=0.05)
    assert 0.1 < few.stats.recall < 1
    early = override(0.2, before)
    assert torch.allclose(
        velocity(tree, early, sigma=0.9), velocity(tree, None, sigma=0.9), atol=1e-4
    )
    assert (early.stats.density, early.stats.recall) == (1, None)


def test_the_node_gives_a_clone_whose_override_the_hosts_sampler_calls(
    core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server, so that nothing is shown under it."""
    from longtake.nodes import host
    from longtake.nodes.attention.sparse_attention import SparseAttentionNode
    from longtake.tests.in_core.support.places import DEMO
    from longtake.tests.support.model.other_loader import load_by_host

    monkeypatch.setattr(host, "show_status", lambda *_: None)
    model = load_by_host(DEMO / "dit.safetensors")
    prepared = type(
        "Prepared", (SparseAttentionNode,), {"hidden": type("H", (), {"unique_id": None})}
    )
    settings = {"temp_cache": False, "self_attention": "off"}
    padding = {"preset": "balanced", "prompt_attention": "merge padding"}
    twin = prepared.execute(model, **settings, **padding).args[0]
    assert twin is not model
    assert "optimized_attention_override" not in model.model_options["transformer_options"]
    again = prepared.execute(twin, **settings, preset="fast", prompt_attention="off").args[0]
    hooks = [
        m.model_options["transformer_options"]["optimized_attention_override"]
        for m in (twin, again)
    ]
    assert hooks[1] is not hooks[0] and hooks[1].previous is None
