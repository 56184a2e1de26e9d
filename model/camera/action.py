"""The demo's camera: one number per latent frame, added to the time embedding.

The number is the speed of the pan. It goes through the time embedding's sinusoid and two linear
layers (HY-WorldPlay da2d0c2, `condition_embedder.action_embedder`). The second layer is zero at the
start, so an untrained module gives the bits of the model without it. The first layer is not: two
zero layers would give each other no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...machine.uploads import upload
from ..arithmetic.times import sinusoid
from ..config import FREQ_DIM, DiTConfig
from ..hooks import Hooks
from .frames import CameraFrames

FULL_PAN = 15.0  # degrees a second, the usual pan; 1 pixel a frame in the demo's world
POSITION = 10.0  # of a full pan on the sinusoid

Linear = Callable[[int, int], nn.Module]
"""Makes a linear layer with bias from numbers of inputs and outputs."""


def add_action_layers(tree: Any, config: DiTConfig, linear: Linear) -> None:
    """Add `action_embedding.0` and `.2`, whose second layer is zero, to a module tree."""
    last: Any = linear(config.dim, config.dim)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    tree.action_embedding = nn.Sequential(linear(FREQ_DIM, config.dim), nn.SiLU(), last)


def pan_speeds(camera: CameraFrames) -> Tensor:
    """The pan of each latent frame (f,): -1 left to 1 right, of a turn or of a move sideways."""
    return (camera.turns / FULL_PAN + camera.steps[:, 0, 3]).clamp(-1.0, 1.0)


def embed_action(tree: Any, action: Tensor, like: Tensor) -> Tensor:
    """The addition (b, f, c) to the time embedding for actions (b, f) from -1 to 1."""
    addition: Tensor = tree.action_embedding(
        upload(sinusoid(POSITION * action).to(like.dtype), like.device)
    )
    return addition


def action_hooks(tree: Any, camera: CameraFrames) -> Hooks:
    """Add the pan of every latent frame to its time embedding."""
    return pan_hooks(tree, pan_speeds(camera)[None])


def pan_hooks(tree: Any, action: Tensor) -> Hooks:
    """Add pans (b, f), -1 left to 1 right, to the time embedding of their latent frames."""
    return Hooks(time=(PanAddition(tree, action),))


class PanAddition:
    """Adds pans (b, f) to time embeddings; what is added is computed once, unless it is trained."""

    def __init__(self, tree: Any, action: Tensor) -> None:
        self._tree, self._action = tree, action
        self._latest: Tensor | None = None

    def __call__(self, e: Tensor) -> Tensor:
        """Add the pans to a time embedding (b, f, c)."""
        if torch.is_grad_enabled():
            return e + embed_action(self._tree, self._action, e)
        if self._latest is None or self._latest.dtype != e.dtype or self._latest.device != e.device:
            self._latest = embed_action(self._tree, self._action, e)
        return e + self._latest
