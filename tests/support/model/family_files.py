"""Files in the containers and under the names that the families are published with.

Real sizes are only headers: the data is a hole in a sparse file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from longtake.model.action_sizes import ActionSizes
from longtake.model.config import Camera, DiTConfig
from longtake.model.dit import WanDiT
from longtake.tests.support.tiny_model import random_dit

SMALL = DiTConfig(dim=256, ffn_dim=48, num_heads=2, num_layers=2, text_dim=16)
SIZES = {  # dim, ffn, layers, channels in, channels out: the published models
    "1.3B": (1536, 8960, 30, 16, 16),
    "14B": (5120, 13824, 40, 16, 16),
    "I2V-14B": (5120, 13824, 40, 36, 16),
    "5B": (3072, 14336, 30, 48, 48),
    "LingBot-1.3B": (1536, 8960, 30, 36, 16),
    "LingBot-14B": (5120, 13824, 40, 36, 16),
    "minWM": (1536, 8960, 30, 16, 16),
    "MatrixGame-4": (1536, 8960, 30, 36, 16),
    "MatrixGame-2": (1536, 8960, 30, 36, 16),
    "FunCamera-1.3B": (1536, 8960, 30, 32, 16),
    "FunCamera-A14B": (5120, 13824, 40, 36, 16),
    "AnyFlow-1.3B": (1536, 8960, 30, 16, 16),
    "AnyFlow-14B": (5120, 13824, 40, 16, 16),
    "AnyFlowFAR-1.3B": (1536, 8960, 30, 16, 16),
    "AnyFlowFAR-14B": (5120, 13824, 40, 16, 16),
}
ITEM = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U8": 1, "I8": 1}
ADAPTED = (".q", ".k", ".v", ".o", ".ffn.0", ".ffn.2")
State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def state(config: DiTConfig = SMALL, seed: int = 0) -> State:
    """Random weights under the official names."""
    return dict(random_dit(config, seed).state_dict())


@cache
def official_shapes(size: str, layers: int | None = None) -> Shapes:
    """Names and shapes of a published model (of its first `layers` blocks)."""
    dim, ffn, all_layers, inputs, outputs = SIZES[size]
    layers = layers or all_layers
    kinds: dict[str, Camera] = {
        "LingBot": "plucker", "minWM": "prope", "FunCamera": "fun", "MatrixGame": "keys",
    }  # fmt: skip
    kind, _, variant = size.partition("-")
    camera = kinds.get(kind, "none")
    config = DiTConfig(dim, ffn, dim // 128, layers, 4096, inputs, outputs, camera)
    if camera == "keys":
        config = replace(config, text_dim=0, action=ActionSizes(15, int(variant), 128, 1024))
    config = replace(config, flow_map=kind.startswith("AnyFlow"), coarse_past=kind == "AnyFlowFAR")
    with torch.device("meta"):
        dit = WanDiT(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in dit.state_dict().items()}
    if size in ("I2V-14B", "FunCamera-1.3B"):
        shapes |= image_shapes(dim, layers)
    return shapes


def image_shapes(dim: int, layers: int) -> Shapes:
    """What image-to-video models have on top (models with a CLIP branch)."""
    extra: Shapes = {}
    for n in range(layers):
        ca = f"blocks.{n}.cross_attn"
        extra |= {f"{ca}.{k}_img.weight": (dim, dim) for k in "kv"}
        extra |= {f"{ca}.{k}_img.bias": (dim,) for k in "kv"}
        extra[f"{ca}.norm_k_img.weight"] = (dim,)
    for n, (rows, columns) in {1: (1280, 1280), 3: (dim, 1280)}.items():
        extra |= {f"img_emb.proj.{n}.weight": (rows, columns), f"img_emb.proj.{n}.bias": (rows,)}
    for n, width in {0: 1280, 4: dim}.items():
        extra |= {f"img_emb.proj.{n}.weight": (width,), f"img_emb.proj.{n}.bias": (width,)}
    return extra


def fps_state(dim: int, seed: int = 3) -> State:
    """SkyReels' embedding of the frame rate."""
    seeded = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return 0.1 * torch.randn(*shape, generator=seeded)

    return {
        "fps_embedding.weight": random(2, dim),
        "fps_projection.0.weight": random(dim, dim),
        "fps_projection.0.bias": random(dim),
        "fps_projection.2.weight": random(6 * dim, dim),
        "fps_projection.2.bias": random(6 * dim),
    }


def header_only(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str = "BF16",
    dtypes: Mapping[str, str] | None = None,
    **metadata: str,
) -> Path:
    """A safetensors file of real size whose data is a hole: it takes no room on disk.

    All tensors are `dtype`, except those of other `dtypes`.
    """
    content: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, shape in shapes.items():
        own = (dtypes or {}).get(name, dtype)
        size = ITEM[own] * torch.Size(shape).numel()
        content[name] = {"dtype": own, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(content).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return path


def rename(weights: Mapping[str, Tensor], rename: Callable[[str], str]) -> State:
    """The same weights under other names."""
    return {rename(name): tensor for name, tensor in weights.items()}


def prefix(prefix: str) -> Callable[[str], str]:
    """`prefix` before every name."""
    return lambda name: prefix + name


def block_fsdp(name: str) -> str:
    """The names that FSDP leaves when each block is wrapped, and the model too."""
    inner = name
    if name.startswith("blocks."):
        number, rest = name.removeprefix("blocks.").split(".", 1)
        inner = f"blocks.{number}._fsdp_wrapped_module._checkpoint_wrapped_module.{rest}"
    return f"model._fsdp_wrapped_module.{inner}"


def image_state() -> State:
    """A small image-to-video model: 36 channels in, a CLIP branch."""
    config = DiTConfig(SMALL.dim, SMALL.ffn_dim, SMALL.num_heads, 2, SMALL.text_dim, 36, 16)
    seeded = torch.Generator().manual_seed(5)
    extra = {
        name: torch.randn(shape, generator=seeded) / shape[-1] ** 0.5
        for name, shape in image_shapes(SMALL.dim, 2).items()
    }
    return state(config) | extra


def fun_camera_state(*, clip: bool) -> State:
    """A small Fun-Camera: Wan 2.1's has 32 channels in and a CLIP branch, Wan 2.2's has 36."""
    config = replace(SMALL, in_channels=32 if clip else 36, camera="fun")
    images = {name: tensor for name, tensor in image_state().items() if "img" in name}
    return state(config) | (images if clip else {})


def twin_state() -> tuple[State, State, State]:
    """Self Gradient Forcing Plus: its own weights, its twin's, and both as its files name them."""
    own, twin = state(seed=1), state(seed=2)
    named = dict(own)
    for name, tensor in twin.items():
        first, *rest = name.split(".")
        inside = [*rest[:-1], f"memory_{rest[-1]}"]
        named[".".join([first, *inside] if first == "blocks" else [f"memory_{first}", *rest])] = (
            tensor
        )
    return own, twin, rename(named, prefix("model."))


def matrix_game_state(keys: int = 4) -> State:
    """A small Matrix-Game 2, with the weights of norms that its authors' code does not read."""
    action = ActionSizes(blocks=1, keys=keys, embed=8, width=128)
    config = replace(
        SMALL, text_dim=0, in_channels=36, out_channels=16, camera="keys", action=action
    )
    norms = ("img_attn_q_norm", "img_attn_k_norm", "key_attn_q_norm", "key_attn_k_norm")
    unread = {f"blocks.0.action_model.{name}.weight": torch.ones(64) for name in norms}
    return state(config) | unread


def anyflow_state(*, far: bool, text_dim: int = SMALL.text_dim) -> State:
    """A small AnyFlow; FAR's reads its older past in coarse patches."""
    return state(replace(SMALL, text_dim=text_dim, flow_map=True, coarse_past=far))


def speaking_state(text_dim: int = SMALL.text_dim) -> State:
    """A small LiveTalk: 33 channels in, and one block that takes the voice."""
    sizes = replace(SMALL, num_layers=4, text_dim=text_dim)
    return state(replace(sizes, in_channels=33, out_channels=16, voice=True))


def adapted_state(weights: State, rank: int, seed: int = 9) -> State:
    """The same model with a LoRA beside it, under the names that PEFT's layers have.

    AvatarForcing's code puts one on all that attention and the MLP multiply by.
    """
    generator, adapted = torch.Generator().manual_seed(seed), State()
    for name, tensor in weights.items():
        layer, _, kind = name.rpartition(".")
        if not layer.startswith("blocks.") or not layer.endswith(ADAPTED):
            adapted[name] = tensor
            continue
        adapted[f"{layer}.base_layer.{kind}"] = tensor
        if kind == "weight":
            outputs, inputs = tensor.shape
            for factor, shape in {"A": (rank, inputs), "B": (outputs, rank)}.items():
                noise = torch.randn(shape, generator=generator)
                adapted[f"{layer}.lora_{factor}.default.weight"] = noise / shape[1] ** 0.5
    return adapted
