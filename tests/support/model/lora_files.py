"""LoRA files under the names that their trainers give them; the arithmetic of each, written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.tests.support.model.family_files import SMALL, State, state
from longtake.tests.support.tiny_model import randn

RANK = 4
LAYERS = {  # official name to diffusers' name
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.1.self_attn.o": "blocks.1.attn1.to_out.0",
    "blocks.1.cross_attn.v": "blocks.1.attn2.to_v",
    "blocks.0.ffn.0": "blocks.0.ffn.net.0.proj",
    "blocks.1.ffn.2": "blocks.1.ffn.net.2",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "head.head": "proj_out",
}
Pairs = dict[str, tuple[Tensor, Tensor]]


def shapes() -> dict[str, tuple[int, ...]]:
    """The layers and modulations of the small model."""
    ends = (".weight", ".modulation")
    stored = {n: tuple(t.shape) for n, t in state().items() if n.endswith(ends)}
    return {n.removesuffix(".weight"): shape for n, shape in stored.items()}


def pairs() -> Pairs:
    """Up and down of each layer, by official name."""
    all_shapes = shapes()
    return {
        name: (randn(all_shapes[name][0], RANK, seed=i), randn(RANK, all_shapes[name][1], seed=-i))
        for i, name in enumerate(LAYERS, 1)
    }


def merge(scale: float) -> State:
    """The small model's weights with the pairs added, by the definition of a LoRA."""
    weights = {name: tensor.clone() for name, tensor in state(SMALL).items()}
    for name, (up, down) in pairs().items():
        weights[f"{name}.weight"] += scale * torch.einsum("or,ri->oi", up, down)
    return weights


def layers(prefix: str, up: str, down: str, name: Callable[[str], str] = str) -> State:
    """The pairs as `PREFIX + name(layer) + up` and `down`."""
    out = {}
    for layer, (b, a) in pairs().items():
        out |= {f"{prefix}{name(layer)}{up}": b, f"{prefix}{name(layer)}{down}": a}
    return out


def alphas(tensors: State, up: str, alpha: float) -> State:
    """The same with an alpha tensor for every layer."""
    alphas = {n.replace(up, ".alpha"): torch.tensor(alpha) for n in tensors if n.endswith(up)}
    return tensors | alphas


def safetensors(path: Path, tensors: State, **metadata: str) -> Path:
    """A safetensors file of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata or None)
    return path


def random_lora() -> dict[str, Tensor]:
    """A LoRA for one layer of the demo model, in the host's own key names."""
    seeded = torch.Generator().manual_seed(1)
    layer = "diffusion_model.blocks.0.self_attn.q"
    up, down = torch.randn(192, 4, generator=seeded), torch.randn(4, 192, generator=seeded)
    return {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}
