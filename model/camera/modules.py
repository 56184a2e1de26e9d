"""The modules that take a camera, by the kind that a model's tensors show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..config import Camera
from ..hooks import Hooks
from . import action, plucker
from .frames import CameraFrames

Linear = Callable[[int, int], nn.Module]
"""Makes a linear layer with bias from numbers of inputs and outputs."""


@dataclass(frozen=True, slots=True)
class CameraModule:
    """One way for a camera into a model.

    `add_layers` puts its layers, made by a factory, into a module tree of a width. `hooks` are
    those of the frames of a pass. `reads_prompt`: without a path, the prompt's words move the
    camera. `max_values_per_token`, of a width and a number of layers, bounds what the hooks hold.
    """

    add_layers: Callable[[Any, int, Linear], None]
    hooks: Callable[[Any, CameraFrames], Hooks]
    reads_prompt: bool = False
    max_values_per_token: Callable[[int, int], int] = lambda dim, layers: 0


CAMERA_MODULES: Mapping[Camera, CameraModule] = {
    "action": CameraModule(action.add_action_layers, action.action_hooks, reads_prompt=True),
    "plucker": CameraModule(
        plucker.add_plucker_layers,
        plucker.plucker_hooks,
        max_values_per_token=plucker.max_values_per_token,
    ),
}
