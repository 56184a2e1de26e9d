"""From the control video of a rollout to the hooks of a step; commits have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.dit import TextKV, project_layers
from ..model.hooks import NO_HOOKS, Hooks
from ..model.vace.hints import ControlPass, Hints
from ..model.vace.module import VaceModule
from .control.video import ControlVideo
from .current import CurrentSettings
from .denoiser import Denoiser, LowNoise
from .settings import RolloutSettings


class ControlBranch:
    """The module of a model that runs beside it; a chunk's control frames are projected once."""

    def __init__(self, current: CurrentSettings, module: VaceModule, model: Denoiser) -> None:
        self._current = current
        self._module, self._model = module, model
        self._by_frames: dict[tuple[int, ...], Tensor] = {}

    @property
    def _control(self) -> ControlVideo:
        """The control video in force: a live edit may have changed its strength."""
        control = self._current.settings.control
        assert control is not None
        return control

    def forget(self) -> None:
        """Drop projected control frames: the host may have moved or changed the weights."""
        self._by_frames.clear()

    def project(self, tree: Any, context: Tensor) -> TextKV:
        """Keys and values of text embeddings (b, p, l, text_dim) for the module's blocks."""
        text = tree.text_embedding(context)
        return TextKV(project_layers(self._module.vace_blocks, text, tree.num_heads))

    def hooks(self, tree: Any, frames: Sequence[int], text: TextKV) -> Hooks:
        """The hooks of a step over latent `frames`; none where the strength is 0."""
        strengths = [self._control.strength_at(frame) for frame in frames]
        if not any(strengths):
            return NO_HOOKS
        settings = self._current.settings
        control = ControlPass(
            self._tokens(frames), torch.tensor(strengths), [f - min(frames) for f in frames],
            text, settings.rows, settings.columns,
        )  # fmt: skip
        return Hints(tree, self._module, control, self._model.host.cast).hooks

    def _tokens(self, frames: Sequence[int]) -> Tensor:
        """The projected control frames (f, s, c); a frame without one counts as zeros."""
        key = tuple(frames)
        if key not in self._by_frames:
            self._by_frames.clear()  # one chunk's at a time
            self._by_frames[key] = self._embed(self._control.read(frames))
        return self._by_frames[key]

    @torch.no_grad()
    def _embed(self, pictures: Sequence[Tensor | None]) -> Tensor:
        present = [i for i, picture in enumerate(pictures) if picture is not None]
        stacked = torch.stack([picture for picture in pictures if picture is not None])
        embedded = self._module.embed(stacked.to(self._model.device), self._model.dtype)
        tokens = embedded.new_zeros(len(pictures), *embedded.shape[1:])
        tokens[present] = embedded
        projected: Tensor = self._module.first_block.before_proj(tokens)
        return projected


def control_branch(current: CurrentSettings, model: Denoiser) -> ControlBranch | None:
    """The branch of a rollout with a control video and a model with a module, else None."""
    if current.settings.control is None or model.control is None:
        return None
    return ControlBranch(current, model.control, model)


def check_control(settings: RolloutSettings, model: Denoiser) -> None:
    """BadInput where weights that make steps have no module to read the control video."""
    if settings.control is None:
        return
    second = model.second
    steps = [model, *([second.model] if second and isinstance(second.passes, LowNoise) else [])]
    if all(weights.control is not None for weights in steps):
        return
    which = "this model has" if len(steps) == 1 else "one of the two models has"
    raise BadInput(
        f"{which} no VACE module, so it cannot follow a control video; load one beside the model, "
        "or disconnect the control video."
    )
