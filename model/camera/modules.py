"""The modules that take a camera, by the kind that a model's tensors show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...attention.projected import FrameMatrices, ReadFrames
from ..config import Camera, DiTConfig
from ..hooks import NO_HOOKS, AttentionHook, Hooks
from . import action, columns, fun, keys, plucker, prope
from .frames import CameraFrames, PlacedCameras

Linear = Callable[..., nn.Module]
"""Makes a linear layer from numbers of inputs and outputs; `bias=False` leaves its bias out."""


PictureHooks = Callable[[Any, PlacedCameras, tuple[int, int]], Hooks]
"""(module tree, cameras of all pictures, latent rows and columns) -> hooks of a pass."""


@dataclass(frozen=True, slots=True)
class SecondAttention:
    """Another self-attention over the same history, by matrices of its cameras.

    `hooks`, of a module tree and that attention, use the result.
    """

    matrices: Callable[[PlacedCameras], FrameMatrices]
    hooks: Callable[[Any, AttentionHook], Hooks]


AlongTime = Callable[[Any, DiTConfig, Sequence[tuple[int, ReadFrames]], keys.ActionsOf], Hooks]
"""(module tree, its sizes, what batch rows read of the history, keys and mouse of
latent frames) -> hooks of a pass."""


def _no_hooks(tree: Any, camera: CameraFrames) -> Hooks:
    return NO_HOOKS


@dataclass(frozen=True, slots=True)
class CameraModule:
    """One way for a camera into a model.

    `add_layers` puts its layers, made by a factory, into a module tree of a width. `hooks` are
    those of the frames of a pass. `of_pictures` adds those of the cameras of all pictures, for
    latent rows and columns; `of_rays` those of rays (f, 24, h, w) that came with the picture;
    `second` and `along_time` those that read the history. `reads_prompt`: without a path, the
    prompt's words move the camera. `only_pans`: the camera stands still in any other move.
    `keeps_hooks`: hooks hold so little that they outlive the claim of the next chunk, and serve the
    commit of their frames too. `max_values_per_token` bounds what they hold per token, of the
    history too where they read it.
    """

    add_layers: Callable[[Any, DiTConfig, Linear], None]
    hooks: Callable[[Any, CameraFrames], Hooks] = _no_hooks
    reads_prompt: bool = False
    only_pans: bool = False
    keeps_hooks: bool = False
    max_values_per_token: Callable[[DiTConfig], int] = lambda config: 0
    of_pictures: PictureHooks | None = None
    of_rays: Callable[[Any, Tensor], Hooks] | None = None
    second: SecondAttention | None = None
    along_time: AlongTime | None = None

    @property
    def reads_history(self) -> bool:
        """Whether its hooks read the history beside self-attention."""
        return self.second is not None or self.along_time is not None


CAMERA_MODULES: Mapping[Camera, CameraModule] = {
    "action": CameraModule(
        action.add_action_layers,
        action.action_hooks,
        reads_prompt=True,
        only_pans=True,
        keeps_hooks=True,
    ),
    "columns": CameraModule(
        columns.add_column_layers,
        columns.column_hooks,
        reads_prompt=True,
        only_pans=True,
        keeps_hooks=True,
        max_values_per_token=columns.max_values_per_token,
    ),
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
    "keys": CameraModule(
        keys.add_key_layers,
        max_values_per_token=keys.max_values_per_token,
        along_time=keys.key_hooks,
    ),
}
