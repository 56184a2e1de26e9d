"""Layers that the host does not know, such as a camera's, added to a MODEL of its own.

They are layers of the host's kind, so it moves and casts them as it does the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.utils
import torch
from torch import Tensor, nn

from ...model.anyflow.coarse_patches import add_coarse_patches
from ...model.anyflow.flow_map import add_flow_map_layers
from ...model.camera.modules import CAMERA_MODULES
from ...model.config import (
    COARSE_TENSOR,
    FLOW_MAP_TENSOR,
    TEXT,
    VOICE_TENSOR,
    camera_of,
    config_from_shapes,
    state_of,
)
from ...model.delta import add_delta_layers
from ...model.image_embedding import ImageEmbedding
from ...model.voice import add_voice_layers
from .loaded_weights import loaded_dtype

OWN = (  # of the demo's camera, of a voice, and of AnyFlow
    "action_embedding.", "world_columns", "world_turns", "audio_proj.", "audio_cond_projs.",
    "delta_embedding.", "far_patch_embedding.",
)  # fmt: skip
PICTURE = "img_emb."


def without_own_layers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by which the host recognises the model that it can build, in a dict of its own.

    The host would warn of names that only we know. A model that reads a picture in place of a
    prompt is its text-to-video model with more channels. The host takes out of the dict what it
    uses.
    """
    left_out = OWN if TEXT in state else (*OWN, PICTURE)
    return {name: tensor for name, tensor in state.items() if not name.startswith(left_out)}


def add_own_layers(model: Any, state: dict[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Add the layers of a file that the host does not know to the MODEL that it built of it.

    A model that reads a picture in place of a prompt gets the layers for that, and loses those for
    text.
    """
    tree = model.model.diffusion_model
    modules = {name for name, _ in tree.named_modules()}
    names = {name for name, _ in tree.named_parameters()}
    _add(tree, state, names)
    added = {name for name, _ in tree.named_modules()} - modules
    bare = {name for name, _ in tree.named_parameters() if name.rpartition(".")[0] in modules}
    bare -= names
    if not added | bare:
        return
    _load(tree, _in_hosts_words(state, metadata), added, bare)
    model.size = 0  # so that the host measures it again


def _add(tree: Any, state: Mapping[str, Tensor], names: set[str]) -> None:
    """Add the layers without weights; `names` are the parameters that the host has built."""
    kind, like = camera_of(state), tree.time_embedding[0]
    layer = _maker(like)
    if TEXT not in state:
        del tree.text_embedding
        tree.img_emb = ImageEmbedding(like.out_features, layer)
    if kind != camera_of(names):
        config = config_from_shapes(state, tree.num_heads)
        CAMERA_MODULES[kind].add_layers(tree, config, layer)
    if state_of(state) != state_of(names):
        add_delta_layers(tree, like.out_features, layer)
    if VOICE_TENSOR in state and VOICE_TENSOR not in names:
        add_voice_layers(tree, config_from_shapes(state, tree.num_heads), layer)
    if FLOW_MAP_TENSOR in state and FLOW_MAP_TENSOR not in names:
        add_flow_map_layers(tree, like.out_features, layer)
    if COARSE_TENSOR in state and COARSE_TENSOR not in names:
        patches = tree.patch_embedding
        channels = state[COARSE_TENSOR].shape[1]
        add_coarse_patches(tree, channels, like.out_features, _maker(patches))


def _maker(like: Any) -> Callable[..., Any]:
    """Make layers of the class, the dtype and the device of one that the host has built.

    A layer that may be quantised, or that waits for its file's memory, gets its weight and its bias
    when it is loaded. Until then they are as those of PyTorch's own, which can be filled.
    """
    own = nn.Conv3d if isinstance(like, nn.Conv3d) else nn.Linear
    dtype = loaded_dtype(like, "weight", like.weight)
    place: dict[str, Any] = {"dtype": dtype, "device": like.weight.device}

    def make(*sizes: Any, **options: Any) -> Any:
        layer = type(like)(*sizes, **options, **place)
        for name, parameter in own(*sizes, **options, device="meta").named_parameters():
            if getattr(layer, name, None) is None:
                empty = torch.empty(parameter.shape, dtype=torch.float32, device=place["device"])
                setattr(layer, name, nn.Parameter(empty, requires_grad=False))
        return layer

    return make


def _in_hosts_words(state: dict[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors with the format of each quantised layer beside it, as the host's layers read."""
    converted, _ = comfy.utils.convert_old_quants({**state}, "", metadata={**metadata})
    return converted


def _load(tree: Any, state: Mapping[str, Tensor], modules: set[str], bare: set[str]) -> None:
    """Give new `modules`, one by one, and `bare` parameters of old modules their weights.

    A layer of the host that may be quantised loses its weight where it is loaded without one.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        module, _, part = name.rpartition(".")
        if module in modules:
            parts.setdefault(module, {})[part] = tensor
    for module, part in parts.items():
        tree.get_submodule(module).load_state_dict(part, strict=False)
    with torch.no_grad():
        for name in bare:
            tree.get_parameter(name).copy_(state[name])
