"""From the camera's path, or the prompt's words, to the hooks of a pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..attention.projected import FrameMatrices
from ..errors import BadInput
from ..model.camera.actions import FrameActions, actions_of, frames_read
from ..model.camera.frames import NO_TRAVEL, CameraFrames, PlacedCameras
from ..model.camera.modules import CAMERA_MODULES, CameraModule
from ..model.config import FRAMES_PER_LATENT, DiTConfig
from ..model.forward import ModelConfig
from ..model.hooks import NO_HOOKS, Hooks
from .camera.path import STILL_PATH, runs_of_paths
from .control_branch import ControlBranch
from .current import CurrentSettings
from .pass_reader import PassReader
from .settings import RolloutSettings
from .settings_checks import check_second_attention
from .strip import travel, word_paths

CPU = torch.device("cpu")


class Steering:
    """The hooks of a model that takes a camera; each chunk's are made once per claim, or once.

    `control` gives the hooks of a control video, which steps have and commits do not.
    """

    def __init__(
        self,
        current: CurrentSettings,
        config: ModelConfig,
        device: torch.device = CPU,
        control: ControlBranch | None = None,
    ) -> None:
        check_camera(current.settings, config)
        self._current, self._device, self.control = current, device, control
        self._module = CAMERA_MODULES.get(config.camera)
        self._config = config
        self._by_past: dict[tuple[object, ...], FrameMatrices] = {}
        self._latest: tuple[RolloutSettings, tuple[int, ...], CameraFrames] | None = None
        self._own: Hooks | None = None  # of the latest camera

    def forget(self) -> None:
        """Drop all hooks, which read the weights: others take their turn."""
        self._own = None
        self.renew()

    def renew(self) -> None:
        """Drop what is made anew after every claim: all but hooks that hold little."""
        if self._module is None or not self._module.keeps_hooks:
            self._own = None
        self._by_past.clear()
        if self.control is not None:
            self.control.forget()

    def hooks(self, tree: Any, frames: Sequence[int], reader: PassReader) -> Hooks:
        """The hooks of a pass over latent `frames`; none for a model without a camera.

        `reader` opens another attention over the history that the pass reads.
        """
        if self._module is None:
            return NO_HOOKS
        own = self._own_hooks(self._module, tree, frames)
        second, along_time = self._module.second, self._module.along_time
        if along_time is not None and isinstance(self._config, DiTConfig):
            own = own.then(along_time(tree, self._config, reader.runs(), self._actions))
        return own if second is None else own.then(second.hooks(tree, reader(self._matrices)))

    def _own_hooks(self, module: CameraModule, tree: Any, frames: Sequence[int]) -> Hooks:
        settings, latest = self._current.settings, self._latest
        if latest is None or latest[0] is not settings or latest[1] != tuple(frames):
            latest = settings, tuple(frames), self._camera(module, frames)
            self._latest, self._own = latest, None  # one chunk's at a time
        if self._own is None:
            hooks = module.hooks(tree, latest[2])
            self._own = hooks.then(self._of_pictures(module, tree, frames))
        return self._own

    def _of_pictures(self, module: CameraModule, tree: Any, frames: Sequence[int]) -> Hooks:
        if module.of_pictures is None:
            return NO_HOOKS
        settings = self._current.settings
        rays = None if settings.reference is None else settings.reference.rays_at(frames)
        if settings.camera is None and rays is not None and module.of_rays is not None:
            return module.of_rays(tree, rays)
        path = settings.camera or STILL_PATH
        lenses = [path.lens_at(frame).values for frame in frames for _ in range(FRAMES_PER_LATENT)]
        cameras = PlacedCameras(
            path.placed_pictures(frames, FRAMES_PER_LATENT), torch.tensor(lenses)
        )
        return module.of_pictures(tree, cameras, (settings.rows, settings.columns))

    def _matrices(self, frames: tuple[int, ...], origin: int) -> FrameMatrices:
        """The matrices of latent frames of history and pass, in the axes of one of them."""
        assert self._module is not None
        assert self._module.second is not None
        path = self._current.settings.camera or STILL_PATH
        key = frames, origin, path.digest
        if key not in self._by_past:
            lenses = torch.tensor([path.lens_at(frame).values for frame in frames])
            cameras = PlacedCameras(path.placed(frames, origin), lenses)
            matrices = self._module.second.matrices(cameras)
            self._by_past[key] = matrices.to(self._device)
        return self._by_past[key]

    def _actions(self, frames: Sequence[int]) -> FrameActions:
        """Keys and mouse of the pictures that latent `frames` read.

        The first frame, which no motion leads to, has those of the next one of its chunk, if any.
        """
        assert self._config.action is not None
        path = self._current.settings.camera or STILL_PATH
        settings = self._current.settings
        opening = settings.next_chunk(settings.origin + 1) - settings.origin
        first = min(1, opening - 1)
        moving = [frame or first for frame in frames_read(frames)]
        steps = {frame: path.relative([frame])[0] for frame in {*moving}}
        motions = torch.stack([steps[frame] for frame in moving])
        return actions_of(motions, self._config.action.keys).to(self._device)

    def _camera(self, module: CameraModule, frames: Sequence[int]) -> CameraFrames:
        """What the module reads of the camera at latent `frames`: its path, and how far it came."""
        settings = self._current.settings
        words = settings.camera is None and module.reads_prompt
        still = [settings.camera or STILL_PATH] * len(frames)
        paths = word_paths(settings, frames) if words else still
        lenses = [path.lens_at(at).values for path, at in zip(paths, frames, strict=True)]
        runs = [(path, path.steps_of(at)) for path, at in runs_of_paths(paths, frames)]
        return CameraFrames(
            torch.cat([path.in_full_steps(steps) for path, steps in runs]),
            torch.tensor(lenses),
            torch.cat([path.turns_of(steps) for path, steps in runs]).float(),
            settings.rows,
            settings.columns,
            travel(settings, frames) if module.reads_prompt else NO_TRAVEL,
        )


def check_camera(settings: RolloutSettings, config: ModelConfig) -> None:
    """Refuse settings that leave a model's camera module without what it reads."""
    if not config.reads_prompt and (
        settings.reference is None or settings.reference.features is None
    ):
        raise BadInput(
            "The model reads a start picture in place of a prompt; give it the picture and its "
            "CLIP vision features."
        )
    if not config.reads_prompt and settings.control is not None:
        raise BadInput(
            "The model reads no prompt, and a control module does; leave the control video out."
        )
    module = CAMERA_MODULES.get(config.camera)
    if module is not None and module.reads_history:
        check_second_attention(settings.cache, settings.memory, settings.schedule)
