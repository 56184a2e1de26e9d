"""From the camera's path, or the prompt's words, to the hooks of a pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..model.camera.frames import CameraFrames
from ..model.camera.modules import CAMERA_MODULES
from ..model.config import DiTConfig
from ..model.hooks import NO_HOOKS, Hooks
from .camera.implied import implied_path
from .camera.path import STILL_PATH
from .control_branch import ControlBranch
from .current import CurrentSettings


class Steering:
    """The hooks of a model that takes a camera; each chunk's are made once per claim.

    `control` gives the hooks of a control video, which steps have and commits do not.
    """

    def __init__(
        self, current: CurrentSettings, config: DiTConfig, control: ControlBranch | None = None
    ) -> None:
        self._current, self.control = current, control
        self._module = CAMERA_MODULES.get(config.camera)
        self._by_frames: dict[tuple[object, ...], Hooks] = {}

    def forget(self) -> None:
        """Drop all hooks: the host may have moved or changed the weights."""
        self._by_frames.clear()
        if self.control is not None:
            self.control.forget()

    def hooks(self, tree: Any, frames: Sequence[int]) -> Hooks:
        """The hooks of a pass over latent `frames`; none for a model without a camera."""
        if self._module is None:
            return NO_HOOKS
        camera, words = self._current.settings.camera, list[str]()
        if camera is None and self._module.reads_prompt:
            words = [self._text_of(frame) for frame in frames]
        key = (*frames, *words, None if camera is None else camera.digest)
        if key not in self._by_frames:
            self._by_frames.clear()  # one chunk's at a time
            self._by_frames[key] = self._module.hooks(tree, self._camera(frames, words))
        return self._by_frames[key]

    def _camera(self, frames: Sequence[int], words: Sequence[str]) -> CameraFrames:
        settings = self._current.settings
        path = settings.camera or STILL_PATH
        paths = [implied_path(text) for text in words] or [path] * len(frames)
        pairs = [*zip(paths, frames, strict=True)]
        return CameraFrames(
            torch.cat([path.relative([frame]) for path, frame in pairs]),
            torch.tensor([path.lens_at(frame).values for path, frame in pairs]),
            torch.tensor([path.turn_per_second(frame) for path, frame in pairs]),
            settings.rows,
            settings.columns,
        )

    def _text_of(self, frame: int) -> str:
        prompts = self._current.prompts
        return prompts.prompts[prompts.text_of(frame)][1].text
