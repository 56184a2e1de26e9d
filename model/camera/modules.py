"""The modules that take a camera, by the kind that a model's tensors show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...attention.projected import FrameMatrices
from ..config import Camera
from ..hooks import NO_HOOKS, AttentionHook, Hooks
from . import action, columns, fun, plucker, prope
from .frames import CameraFrames, PlacedCameras

Linear = Callable[[int, int], nn.Module]
"""Makes a linear layer with bias from numbers of inputs and outputs."""


PictureHooks = Callable[[Any, PlacedCameras, tuple[int, int]], Hooks]
"""(module tree, cameras of all pictures, latent rows and columns) -> hooks of a pass."""


@dataclass(frozen=True, slots=True)
class SecondAttention:
    """Another self-attention over the same history, by matrices of its cameras.

    `hooks`, of a module tree and that attention, use the result.
    """

    matrices: Callable[[PlacedCameras], FrameMatrices]
    hooks: Callable[[Any, AttentionHook], Hooks]


def _no_hooks(tree: Any, camera: CameraFrames) -> Hooks:
    return NO_HOOKS


@dataclass(frozen=True, slots=True)
class CameraModule:
    """One way for a camera into a model.

    `add_layers` puts its layers, made by a factory, into a module tree of a width. `hooks` are
    those of the frames of a pass. `of_pictures` adds those of the cameras of all pictures, for
    latent rows and columns; `of_rays` those of rays (f, 24, h, w) that came with the picture;
    `second` those that read the history. `reads_prompt`:
    without a path, the prompt's words move the camera. `max_values_per_token`, of a width and a
    number of layers, bounds what the hooks hold, also per token of the history for `second`.
    """

    add_layers: Callable[[Any, int, Linear], None]
    hooks: Callable[[Any, CameraFrames], Hooks] = _no_hooks
    reads_prompt: bool = False
    max_values_per_token: Callable[[int, int], int] = lambda dim, layers: 0
    of_pictures: PictureHooks | None = None
    of_rays: Callable[[Any, Tensor], Hooks] | None = None
    second: SecondAttention | None = None


CAMERA_MODULES: Mapping[Camera, CameraModule] = {
    "action": CameraModule(action.add_action_layers, action.action_hooks, reads_prompt=True),
    "columns": CameraModule(columns.add_column_layers, columns.column_hooks, reads_prompt=True),
    "plucker": CameraModule(
        plucker.add_plucker_layers,
        plucker.plucker_hooks,
        max_values_per_token=plucker.max_values_per_token,
    ),
    "fun": CameraModule(
        fun.add_fun_layers,
        max_values_per_token=fun.max_values_per_token,
        of_pictures=fun.fun_hooks,
        of_rays=fun.ray_hooks,
    ),
    "prope": CameraModule(
        prope.add_prope_layers,
        max_values_per_token=prope.max_values_per_token,
        second=SecondAttention(prope.camera_matrices, prope.prope_hooks),
    ),
}
