"""Passes of the model that a bench makes itself, given the camera as the sampling loop gives it.

The keys of a model whose columns move with the camera depend on it, so that a history committed
without a camera is another history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from ...model.dit import PLAIN, PassOptions, Prediction, SelfAttention, TextKV, predict
from ...model.hooks import NO_HOOKS, Hooks
from ...samplers.current import CurrentSettings
from ...samplers.pass_reader import PassReader
from ...samplers.steering import Steering
from ...training.evaluation.kit import Kit, Recipe, settings_of

FrameHooks = Callable[[Sequence[int]], Hooks]
"""The hooks of a pass over latent frames."""

NO_READER = cast(PassReader, None)
"""What opens the history to a camera that reads it; the demo's camera reads none."""


def no_camera(frames: Sequence[int]) -> Hooks:
    """The hooks of a model that takes no camera."""
    return NO_HOOKS


def frame_hooks(kit: Kit, prompts: Sequence[tuple[int, str]]) -> FrameHooks:
    """The hooks that the sampling loop gives a rollout of `prompts`, (latent frame, text)."""
    steering = Steering(CurrentSettings(settings_of(kit, Recipe(), prompts, 0)), kit.config)
    return lambda frames: steering.hooks(kit.dit, frames, NO_READER)


class Passes:
    """Passes over the frames of a rollout of `prompts`."""

    def __init__(self, kit: Kit, prompts: Sequence[tuple[int, str]]) -> None:
        self._tree, self._camera = kit.dit, frame_hooks(kit, prompts)

    def predict(
        self,
        x: Tensor,
        at: tuple[int, float],
        text: TextKV,
        attention: SelfAttention,
        options: PassOptions = PLAIN,
    ) -> Prediction:
        """Predict for x (b, f, c, h, w), `at` the first latent frame and the noise level."""
        first, level = at
        hooks = self._camera(range(first, first + x.shape[1]))
        t = torch.full(x.shape[:2], 1000 * level)
        return predict(self._tree, x, t, text, attention, replace(options, hooks=hooks))
