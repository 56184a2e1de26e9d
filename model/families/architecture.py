"""The word for a Wan model's architecture, by the names and the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from ..action_sizes import ActionSizes, action_sizes
from ..config import (
    COARSE_TENSOR,
    FLOW_MAP_TENSOR,
    PATCH,
    VOICE_INPUTS,
    VOICE_TENSOR,
    camera_of,
)
from .anyflow import FAR_SHAPE, WHOLE_SHAPE
from .cameras.matrix_game import SHAPE as KEYS_SHAPE
from .speaking import SHAPE as VOICE_SHAPE
from .table import FAMILIES

ADDITIONS = {
    "fps_embedding.weight": "t2v-fps", COARSE_TENSOR: FAR_SHAPE, FLOW_MAP_TENSOR: WHOLE_SHAPE,
}  # fmt: skip
"""What a text-to-video model with such a tensor is; the first of these counts."""


class OtherInputs(ValueError):
    """A Wan model whose channels are those of no row of the table."""


def architecture(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The word that the table's rows use: t2v, t2v-fps, t2v-camera, i2v, ..."""
    inputs = shapes["patch_embedding.weight"][1]
    outputs = shapes["head.head.bias"][0] // PATCH**2
    clip = any(".cross_attn." in name and "_img." in name for name in shapes)
    known = {(16, 16, False): "t2v", (36, 16, True): "i2v", (36, 16, False): "i2v-no-clip",
             (48, 48, False): "ti2v-5b"}  # fmt: skip
    known = {(VOICE_INPUTS, 16, False): VOICE_SHAPE} if VOICE_TENSOR in shapes else known
    camera = camera_of(shapes)
    of_camera = {
        ("plucker", 36, False): "i2v-camera", ("prope", 16, False): "t2v-camera",
        ("fun", 32, True): "i2v-fun-camera", ("fun", 36, False): "i2v-fun-camera-2",
    }  # fmt: skip
    if outputs == 16 and (camera, inputs, clip) in of_camera:
        return of_camera[camera, inputs, clip]
    name = known.get((inputs, outputs, clip))
    sizes = action_sizes(shapes)
    if sizes is not None:
        return _of_keys(sizes, inputs, outputs)
    if camera == "fun":
        raise OtherInputs(f"a Fun-Camera takes 32 or 36 channels, and this file {inputs}")
    if name is None:
        raise OtherInputs(f"no known model takes {inputs} channels and gives {outputs}")
    if name != "t2v" and FLOW_MAP_TENSOR in shapes:
        raise OtherInputs(f"AnyFlow takes 16 channels, and this file {inputs}")
    added = [kind for tensor, kind in ADDITIONS.items() if tensor in shapes]
    return added[0] if name == "t2v" and added else name


def _of_keys(sizes: ActionSizes, inputs: int, outputs: int) -> str:
    """The word for a model that takes keys and a mouse."""
    shape = f"{KEYS_SHAPE}-{sizes.keys}"
    if (inputs, outputs) != (36, 16) or shape not in {row.shape for row in FAMILIES}:
        raise OtherInputs(
            f"a Matrix-Game 2 takes 36 channels and 2 or 4 keys, and this file {inputs} channels "
            f"and {sizes.keys} keys"
        )
    return shape
