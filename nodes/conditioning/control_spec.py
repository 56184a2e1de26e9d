"""What a Control Video node asks for, before the shot's size and frame rate are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.vae.latent_format import FRAMES_PER_LATENT
from ...samplers.control.strength import (
    MAX_STRENGTH,
    ControlStrength,
    StrengthChange,
    strength_of_changes,
)
from ...samplers.control.video import ControlVideo
from ..frames.pictures import USUAL_FPS, PictureFrames
from ..length import Length, latent_frame_at
from ..models.streaming_vae import StreamingVAE, check_belongs
from .control_frames import ControlPictures
from .known_video import VideoLatents
from .timed_lines import MAX_OVER_S, read_change, timed_lines

EXAMPLES = "`0: 1` or `4 (over 2): 0.3`"


@dataclass(frozen=True, slots=True)
class TimedStrength:
    """A strength from `start_s` seconds on, reached over `over_s` seconds."""

    start_s: float
    factor: float
    over_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """Control frames, pictures (n, H, W, 3) for reference, strengths, and the frames' rate."""

    vae: StreamingVAE
    frames: ControlPictures | None = None
    references: Tensor | None = field(default=None, repr=False)
    strengths: tuple[TimedStrength, ...] = ()
    fps: float | None = None

    def resolve(self, width: int, height: int, fps: float) -> ControlVideo:
        """The control of a shot of `width` x `height` pixels at `fps` frames a second."""
        frame_s = FRAMES_PER_LATENT / fps
        changes = [
            StrengthChange(
                round(latent_frame_at(timed.start_s, fps)), timed.factor,
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
        if self.frames is None or self.references is not None:
            return texts
        latents, wanted_latents = len(self.frames), length.latent_frames
        if wanted_latents is None or latents < wanted_latents:
            seconds = (1 + FRAMES_PER_LATENT * (latents - 1)) / fps
            texts.append(
                f"The control video ends after {seconds:.1f} s; the rest of the shot is made "
                "without control."
            )
        return texts


def fill(picture: Tensor, width: int, height: int) -> Tensor:
    """Scale a picture (H, W, c) until it covers `width` x `height`; cut off what is too much."""
    rows, columns = picture.shape[:2]
    scale = max(height / rows, width / columns)
    size = max(height, math.floor(rows * scale)), max(width, math.floor(columns * scale))
    scaled = F.interpolate(picture.movedim(-1, 0)[None].float(), size, mode="bilinear")
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return scaled[:, :, top : top + height, left : left + width].movedim(1, -1)


def read_strengths(text: str) -> tuple[TimedStrength, ...]:
    """Read `SECONDS: factor` lines, or one number; `(over SECONDS)` after the time eases in."""
    lines = timed_lines(text, EXAMPLES)
    factors = (_factor(line.text, line.number) for line in lines)
    overs = (_over(line.option, line.number) for line in lines)
    starts = (line.start_s for line in lines)
    return tuple(map(TimedStrength, starts, factors, overs))


def _factor(text: str, line: int) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 <= factor <= MAX_STRENGTH:
        raise BadInput(
            f"Line {line} of the strength says {text!r}; write a number from 0 to "
            f"{MAX_STRENGTH:g}, or lines such as {EXAMPLES}."
        )
    return factor


def _over(option: str | None, line: int) -> float:
    if option is None:
        return 0.0
    change = read_change(option, ("over",))
    if change is None:
        raise BadInput(
            f"Line {line} of the strength has ({option}) before its colon; write (over 2) with "
            f"the seconds in which it changes, at most {MAX_OVER_S:g}, or nothing."
        )
    return change[1]


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
