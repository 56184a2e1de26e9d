"""What the host's nodes attach to a prompt for its own sampler, in the words of the canvas."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..errors import BadInput

PICTURE, VISION = "concat_latent_image", "clip_vision_output"
CAMERA_CONDITIONS = "camera_conditions"
VOICE = "longtake_voice"
AREA = "an area from Conditioning (Set Area)"
STEPS = "a range of steps from ConditioningSetTimestepRange"
CONTROL_NET = "a ControlNet from Apply ControlNet"
SOUND = "sound from a node such as WanSoundImageToVideo"
SCAIL, ANIMATE = "masks from WanSCAILToVideo", "a video from WanAnimateToVideo"
FEATURES = "a picture's features from CLIP Vision Encode"
REFERENCES = "a reference from a node such as Set Reference Latent"
ATTACHMENTS: Mapping[str, str] = {
    "area": AREA, "mask": "a mask from Conditioning (Set Mask)",
    "strength": "a strength from Conditioning (Set Area Strength)",
    "start_percent": STEPS, "end_percent": STEPS,
    "hooks": "hooks from a node such as Cond Set Props",
    "control": CONTROL_NET, "cross_attn_controlnet": CONTROL_NET,
    PICTURE: "a picture from a node such as WanImageToVideo",
    "concat_image": "a picture from a node such as SD_4XUpscale_Conditioning",
    VISION: FEATURES, "clip_vision_output_ref": FEATURES, "clip_vision_outputs": FEATURES,
    "clip_vision_output_pose": FEATURES, "unclip_conditioning": FEATURES,
    "reference_latents": REFERENCES, "reference_motion": SOUND, "audio_embed": SOUND,
    "time_dim_concat": "pictures from WanPhantomSubjectToVideo",
    "context_latents": "videos from Bernini Conditioning",
    CAMERA_CONDITIONS: "a camera from WanCameraImageToVideo",
    VOICE: "a voice from Voice",
    "vace_frames": "a control video from WanVaceToVideo",
    "control_video": "a control video from a node such as WanSoundImageToVideo",
    "face_video_pixels": ANIMATE, "pose_video_latent": ANIMATE,
    "driving_mask_28ch": SCAIL, "ref_mask_28ch": SCAIL,
    "gligen": "boxes from Apply GLIGEN Text Box",
    "time_dim_replace": "a picture from Kandinsky5ImageToVideo",
    "keyframe_idxs": "pictures from LTXVAddGuide",
    "ref_audio": "sound from LTXV Reference Audio (ID-LoRA)",
    "reference_audio_timbre_latents": "sound from ReferenceAudio",
    "stable_cascade_prior": "latents from StableCascade_StageB_Conditioning",
}  # fmt: skip
FLUX_GUIDANCE = "guidance"  # what the host's FluxGuidance attaches to a prompt
OTHER_NUMBERS = (  # what the host's nodes tell models that are no Wan model
    "frame_rate", "seconds_start", "seconds_total", "noise_augmentation", "lyrics_strength",
)  # fmt: skip


def check_attachments(options: Mapping[str, Any], handled: Collection[str]) -> None:
    """Refuse (BadInput) what is attached to a prompt and nothing has `handled`."""
    unused = [n for n in ATTACHMENTS if n not in handled and options.get(n) is not None]
    if unused:
        raise BadInput(
            f"The conditioning has {', '.join(_names(unused))}, which the sampler cannot use; "
            f"connect the output of CLIP Text Encode directly{_picture_advice(unused)}."
        )


def _names(unused: Sequence[str]) -> list[str]:
    """Each attachment once; whoever sets an area or a mask sets a strength with it."""
    own_strength = not {"area", "mask"} & {*unused}
    return [*dict.fromkeys(ATTACHMENTS[n] for n in unused if own_strength or n != "strength")]


def _picture_advice(unused: Sequence[str]) -> str:
    """Return where the picture of WanImageToVideo goes, if it came with a prompt."""
    has_picture = PICTURE in unused
    return ", and the picture by VAE Encode (Stream) to `known_frames`" if has_picture else ""


def unread_numbers(*prompts: object) -> list[str]:
    """Say which numbers of a CONDITIONING have no effect: no Wan model has an input for them."""
    options: dict[str, Any] = {}
    for conditioning in prompts:
        for _, attached in conditioning[:1] if isinstance(conditioning, list) else ():
            options.update({name: value for name, value in attached.items() if value is not None})
    messages = list[str]()
    if FLUX_GUIDANCE in options:
        messages.append(
            f"The guidance of {options[FLUX_GUIDANCE]:g} from FluxGuidance has no effect, because "
            "Wan models do not take it; set `cfg` of the sampler instead."
        )
    names = [name for name in OTHER_NUMBERS if name in options]
    if names:
        messages.append(
            f"{', '.join(names)} of the conditioning is for other models and has no effect; "
            "connect the output of CLIP Text Encode directly."
        )
    return messages
