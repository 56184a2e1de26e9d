"""What a Camera Path node asks for, before the model's frame rate is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.camera.modules import CAMERA_MODULES
from ...model.config import FRAMES_PER_LATENT, DiTConfig
from ...samplers.camera.path import CameraPath, path_of_poses
from ...samplers.camera.track import strip_pans
from ..length import Length
from .camera_lines import TimedMoves, path_of_lines

LEAST = 1e-6  # of a move or a pan


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """Moves at times, or poses (n, 4, 4) of a file; `per_latent` poses belong to latent frames."""

    moves: tuple[TimedMoves, ...] = ()
    poses: Tensor | None = field(default=None, repr=False)
    per_latent: bool = False
    source: str = ""

    def resolve(self, fps: float) -> CameraPath:
        """The path at `fps` frames a second.

        Of poses per frame of video each fourth counts, from the first on: those that end a latent
        frame.
        """
        frame_s = FRAMES_PER_LATENT / fps
        if self.poses is None:
            return path_of_lines(self.moves, fps, frame_s)
        poses = self.poses if self.per_latent else self.poses[::FRAMES_PER_LATENT]
        return path_of_poses(poses, frame_s, source=self.source)

    def shortfall(self, path: CameraPath, length: Length) -> list[str]:
        """A sentence where the poses end before the shot does."""
        last = path.starts[-1]
        if self.poses is None or (
            length.latent_frames is not None and last >= length.latent_frames
        ):
            return []
        seconds = last * path.frame_s
        return [
            f"The camera path of {self.source} ends after {last} latent frames ({seconds:.1f} s); "
            "the camera then keeps its last pose."
        ]


def camera_path(spec: CameraSpec | None, config: DiTConfig, fps: float) -> CameraPath | None:
    """The path of a connected Camera Path; BadInput for a model that takes no camera."""
    if spec is None:
        return None
    if config.camera == "none":
        raise BadInput(
            "This model takes no camera path; disconnect `camera` and write the camera's motion "
            "into the prompt, or load a model with a camera, such as LingBot-World or minWM."
        )
    return spec.resolve(fps)


def idle_moves(path: CameraPath, config: DiTConfig, length: Length, file: str = "") -> list[str]:
    """A sentence where a camera that can only pan stands still, and the path moves it otherwise.

    `file`: where the path's poses come from, if they are no written moves.
    """
    module = CAMERA_MODULES.get(config.camera)
    if module is None or not module.only_pans:
        return []
    moves = (path.steps - torch.eye(4)).abs().amax((1, 2)) > LEAST
    zooms = torch.tensor(path.growths) != 0
    stands = strip_pans(path, path.steps).abs() < LEAST
    for entry in ((moves | zooms) & stands).nonzero()[:1].flatten().tolist():
        start = path.starts[entry]
        seconds = max(0, start - 1) * path.frame_s  # latent frame 0 is one picture
        if length.latent_frames is None or start < length.latent_frames:
            turn = f"turn the poses of {file}" if file else "write pan,"
            return [
                "This model's camera only pans: it stands still where the camera path moves it "
                f"otherwise, first at {seconds:.1f} s; {turn} left or right there."
            ]
    return []
