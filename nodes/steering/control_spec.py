"""What a Control Video node asks for, before the shot's size and frame rate are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...errors import BadInput
from ...model.config import FRAMES_PER_LATENT, DiTConfig
from ...model.vae.latent_format import frame_count
from ...samplers.control.strength import (
    ControlStrength,
    StrengthChange,
    strength_of_changes,
)
from ...samplers.control.video import ControlFrames, ControlVideo
from ..conditioning.timed_numbers import TimedNumber
from ..frames.pictures import USUAL_FPS, PictureFrames
from ..known.known_video import VideoLatents
from ..length import Length, latent_frame_at
from ..models.streaming_vae import StreamingVAE, check_belongs
from .control_frames import ControlPictures


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """Control frames, pictures (n, H, W, 3) for reference, strengths, and the frames' rate."""

    vae: StreamingVAE
    frames: ControlPictures | None = None
    references: Tensor | None = field(default=None, repr=False)
    strengths: tuple[TimedNumber, ...] = ()
    fps: float | None = None

    def resolve(self, width: int, height: int, fps: float) -> ControlVideo:
        """The control of a shot of `width` x `height` pixels at `fps` frames a second."""
        frame_s = FRAMES_PER_LATENT / fps
        changes = [
            StrengthChange(
                round(latent_frame_at(timed.start_s, fps)), timed.value,
                round(timed.over_s / frame_s),
            )
            for timed in self.strengths
        ]  # fmt: skip
        strength = strength_of_changes(changes) if changes else ControlStrength()
        pictures = [] if self.references is None else [*self.references]
        references = tuple(
            VideoLatents(PictureFrames(fill(picture, width, height), USUAL_FPS), self.vae)[0]
            for picture in pictures
        )
        return ControlVideo(self.frames, references, strength)

    def remarks(self, length: Length, fps: float) -> list[str]:
        """Sentences where the control video has another length or rate than the shot."""
        texts = []
        if self.fps is not None and self.frames is not None and self.fps != fps:
            texts.append(
                f"The control frames play at {self.fps:g} per second and the shot at {fps:g}; each "
                f"counts as one frame of the shot. Set {fps:g} in Video to Frames (Stream)."
            )
        followed = self.frames if self.references is None else None
        return [*texts, *_end_of(followed, length.latent_frames, fps)]


def end_of_control(control: ControlVideo | None, latents: int | None, fps: float) -> list[str]:
    """A sentence where a control video ends before a shot of `latents` latent frames does."""
    if control is None or control.references:
        return []
    return _end_of(control.frames, latents, fps)


def _end_of(frames: ControlFrames | None, latents: int | None, fps: float) -> list[str]:
    if frames is None or (latents is not None and len(frames) >= latents):
        return []
    seconds = frame_count(len(frames)) / fps
    return [
        f"The control video ends after {seconds:.1f} s; the rest of the shot is made without "
        "control."
    ]


def fill(picture: Tensor, width: int, height: int) -> Tensor:
    """Scale a picture (H, W, c) until it covers `width` x `height`; cut off what is too much."""
    rows, columns = picture.shape[:2]
    scale = max(height / rows, width / columns)
    size = max(height, math.floor(rows * scale)), max(width, math.floor(columns * scale))
    scaled = F.interpolate(picture.movedim(-1, 0)[None].float(), size, mode="bilinear")
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return scaled[:, :, top : top + height, left : left + width].movedim(1, -1)


def control_video(
    spec: ControlSpec | None, model: Any, config: DiTConfig, size: tuple[int, int], fps: float
) -> ControlVideo | None:
    """The connected control video; BadInput where a MODEL has no module, or the VAE is not its."""
    if spec is None:
        return None
    if not config.control_blocks:
        raise BadInput(
            "This model has no VACE module, which reads a control video; put Load VACE Module "
            "between the model's loader and the sampler, or disconnect `control`."
        )
    try:
        check_belongs(spec.vae, model, config.out_channels)
    except BadInput as error:
        raise BadInput(f"At Control Video: {error}") from error
    return spec.resolve(*size, fps)
