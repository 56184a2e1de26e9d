"""The picture of an image-to-video model, taken from a conditioning of the host's WanImageToVideo.

Layout as in the host's `WAN21.concat_cond`: a mask, then the latents, beside the noise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.camera.plucker import PIXELS, RAY
from ...model.config import FRAMES_PER_LATENT, DiTConfig
from ...model.vae.latent_format import frame_count, normalise
from ...samplers.conditioning.reference import Reference
from ...units import count_of
from ..attachments import CAMERA_CONDITIONS, PICTURE, VISION, VOICE
from ..length import Length
from ..models.channels import MASK_CHANNELS, picture_has_mask

RAYS_REPLACED = "The camera path replaces the camera_conditions of the picture's conditioning."
CHANNELS = FRAMES_PER_LATENT * RAY  # of the rays of a latent frame
PICTURE_CONDITIONS = (PICTURE, VISION, CAMERA_CONDITIONS, VOICE)


def reference(
    config: DiTConfig, *conditionings: Any, image_branch: bool = True
) -> Reference | None:
    """Return the first picture among the conditionings; None if the model takes no picture.

    A model without an `image_branch` gets no CLIP vision features, as in the host.
    """
    if config.in_channels == config.out_channels:
        return None
    options = _picture_options(conditionings)
    if options is None:
        raise BadInput(
            "This image-to-video model needs a picture; connect the positive conditioning of "
            "WanImageToVideo, with a start_image, to `picture`."
        )
    channels = _open_end(_beside(options, config.out_channels))
    if config.voice:
        return _first_frame(channels[0, MASK_CHANNELS:])
    picked = channels if picture_has_mask(config) else channels[:, MASK_CHANNELS:]
    features = _features(options, config) if image_branch else None
    return Reference(picked, features, rays=_rays(options, config, picked))


def _first_frame(latents: Tensor) -> Reference:
    """Return a picture (c, h, w) that is the shot's first latent frame, and is seen beside all.

    Beside each latent frame a model that speaks sees the picture and a mark: 0 where the frame is
    that picture (LiveTalk `scripts/inference_example.py`).
    """
    marks = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, *latents.shape[1:])
    return Reference(torch.cat([latents.expand(2, -1, -1, -1), marks], 1), start=latents)


def unread_features(picture: Reference | None, *conditionings: Any) -> list[str]:
    """Say that the model does not see what CLIP vision saw, where it has no image branch."""
    options = _picture_options(conditionings) or {}
    if picture is None or picture.features is not None:
        return []
    if options.get(VISION) is None:
        return []
    return [
        "The clip_vision_output of WanImageToVideo has no effect, because this model has no layers "
        "for it; disconnect it."
    ]


def _picture_options(conditionings: tuple[Any, ...]) -> dict[str, Any] | None:
    """Return the options of the first conditioning that carries a picture."""
    lists = (each for each in conditionings if isinstance(each, list))
    with_picture = (each[0][1] for each in lists if each and each[0][1].get(PICTURE) is not None)
    return next(with_picture, None)


def _beside(options: dict[str, Any], latent_channels: int) -> Tensor:
    """Return mask and latents (f, 4 + c, h, w); the mask is 1 on frames of the picture."""
    image = options[PICTURE]
    if image.ndim != 5 or image.shape[0] != 1 or image.shape[1] != latent_channels:
        raise BadInput(
            "The picture was encoded for another model; use WanImageToVideo with the VAE that "
            "belongs to this one."
        )
    latents = normalise(image[0].transpose(0, 1).float()).cpu()
    known_mask = torch.zeros_like(latents[:, :MASK_CHANNELS])
    mask = options.get("concat_mask")
    if mask is not None:
        known = 1 - mask[0].transpose(0, 1).float().cpu()  # (f, 1 or 4, h, w)
        known_mask[: len(known)] = known.expand(-1, MASK_CHANNELS, -1, -1)
    return torch.cat([known_mask, latents], 1)


def _open_end(channels: Tensor) -> Tensor:
    """End the channels (f, 4 + c, h, w) with a frame without a picture, if there is any.

    All later frames of a shot get the last one. Where it is an end picture, of
    WanFirstLastFrameToVideo, the shot would stand still on it.
    """
    shown = _shown(channels[:, :MASK_CHANNELS])
    if not shown[-1] or shown.all():
        return channels
    last_open = int((~shown).nonzero()[-1])
    return torch.cat([channels, channels[last_open : last_open + 1]])


def _shown(mask: Tensor) -> Tensor:
    """Return which of the latent frames (f) have a picture by their mask (f, 4, h, w)."""
    return mask.flatten(1).any(1)


def check_pictures(config: DiTConfig, length: Length, *conditionings: Any) -> None:
    """Refuse (BadInput) pictures beyond the shot's end, and a shot with nothing but pictures."""
    options = _picture_options(conditionings)
    if options is None or config.in_channels == config.out_channels:
        return
    shown = _shown(_beside(options, config.out_channels)[:, :MASK_CHANNELS])
    last = int(shown.nonzero().max()) if shown.any() else 0
    if length.latent_frames is not None and last >= length.latent_frames:
        raise BadInput(
            f"The picture's conditioning has a picture at {frame_count(last + 1) / length.fps:.1f} "
            f"s and the shot ends at {length.seconds:.1f} s; set the same length in the sampler "
            "and in the node of the picture."
        )
    if shown.all() and (length.latent_frames or len(shown) + 1) > len(shown):
        raise BadInput(
            "The picture's conditioning ends with its pictures, after "
            f"{count_of(frame_count(len(shown)), 'frame')}, and the shot {_longer(length)} in the "
            "node of the picture, such as WanImageToVideo. To begin with one picture of a clip, "
            "take it by Get Image from Batch."
        )


def _longer(length: Length) -> str:
    """Say how long the shot is, rounded up to whole chunks, and which length the picture needs."""
    if length.frames is None:
        return "has no end; set a greater `length`"
    frames = count_of(length.frames, "frame")
    return f"has {frames} in whole chunks; set `length` to {length.frames} or more"


def _rays(options: dict[str, Any], config: DiTConfig, channels: Tensor) -> Tensor | None:
    """Return the rays (f, 24, 8 h, 8 w) of WanCameraEmbedding, None where there are none."""
    conditions = options.get(CAMERA_CONDITIONS)
    if conditions is None:
        return None
    if config.camera != "fun":
        raise BadInput(
            "The picture's conditioning carries camera_conditions, which only Fun-Camera models "
            "take; leave them out of WanCameraImageToVideo."
        )
    rows, columns = channels.shape[-2:]
    size = 1, CHANNELS, PIXELS * rows, PIXELS * columns
    if conditions.ndim != 5 or (*conditions.shape[:2], *conditions.shape[3:]) != size:
        raise BadInput(
            "The camera_conditions have another size than the picture; set the same width and "
            "height in WanCameraEmbedding and WanCameraImageToVideo."
        )
    return conditions[0].transpose(0, 1).float().cpu()


def end_of_rays(rays: Tensor, length: Length) -> list[str]:
    """Say where the rays (f, 24, h, w) of a conditioning end before the shot does."""
    if length.latent_frames is not None and length.latent_frames <= len(rays):
        return []
    return [
        f"The picture's camera_conditions end after {len(rays)} latent frames; the camera then "
        "keeps its last place."
    ]


def _features(options: dict[str, Any], config: DiTConfig) -> Tensor | None:
    """Return the CLIP vision features (s, 1280) of the last layer but one."""
    output = options.get(VISION)
    if output is None and not config.reads_prompt:
        raise BadInput(
            "This model sees the start picture through CLIP vision, in place of a prompt; connect "
            "the output of CLIP Vision Encode to WanImageToVideo."
        )
    return None if output is None else output.penultimate_hidden_states[0].float().cpu()
