"""A recurrent model in a MODEL of the real core, whose loaders do not know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from longtake.attention.states.cache import StateReader
from longtake.model.recurrent.config import RecurrentConfig
from longtake.model.recurrent.family import RECURRENT
from longtake.model.recurrent.file import is_recurrent, load_recurrent, recurrent_header
from longtake.model.recurrent.forward import predict, project_text
from longtake.model.recurrent.network import RecurrentNetwork
from longtake.tests.support.tiny_model import randn, randomise

SIZES = RecurrentConfig(dim=8, num_layers=2, text_dim=6)


@torch.inference_mode()
def velocity(tree: Any) -> torch.Tensor:
    """One pass from no history, on the CPU's bits."""
    zeros = torch.zeros(1, 24, 1, SIZES.dim)
    before = StateReader([(zeros, zeros)] * SIZES.num_layers, slice(None))
    text = project_text(tree, randn(1, 1, 5, SIZES.text_dim, seed=1))
    x, t = randn(1, 3, 16, 4, 6, seed=2), torch.full((1, 3), 500.0)
    return predict(tree, x, t, text, before).velocity


def test_the_core_loads_frees_and_names_a_network_of_our_own(core: Any, tmp_path: Path) -> None:
    from longtake.nodes import host
    from longtake.nodes.models.identity import identity
    from longtake.nodes.models.model_facts import KEY, ModelFacts
    from longtake.nodes.runtime.resolved_model import ResolvedModel

    plain = RecurrentNetwork(SIZES)
    randomise(plain, 0)
    save_file(plain.state_dict(), tmp_path / "r.safetensors", recurrent_header())
    assert is_recurrent(tmp_path / "r.safetensors")
    network, _ = load_recurrent(tmp_path / "r.safetensors")
    model = host.manage_network(network)
    host.attach(model, KEY, ModelFacts(RECURRENT, "its header says so"))
    host.claim([model], 0)
    assert torch.equal(velocity(host.module_tree(model)), velocity(plain))
    assert identity(model) == identity(model.clone()) and identity(model)[1] is None
    resolved = ResolvedModel.of(model)
    assert resolved.engine.config == SIZES and resolved.engine.dtype == torch.float32
    assert host.weights(model).total_bytes == sum(p.nbytes for p in plain.parameters())
