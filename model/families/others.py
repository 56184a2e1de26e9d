"""Files that are recognised and refused, each with a sentence that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput
from .names import unwrap


class Refused(BadInput):
    """A file that is not the model that was asked for.

    `finding` goes on after the file's path. A loader of one kind of model alone says it with a
    remedy of its own.
    """

    def __init__(self, path: Path, finding: str, remedy: str, mark: str = ";") -> None:
        super().__init__(f"{path} {finding}{mark} {remedy}.")
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Other:
    """A kind of file that is no causal Wan model.

    `named` is a pattern in its tensor names, `also` another one; none of them has `without`.
    `is_vae` marks those that the loader of VAEs takes.
    """

    title: str
    named: str
    remedy: str
    also: str = ""
    without: str = r"^$"
    is_vae: bool = False


LOAD_VAE = "load it with Load VAE, and a diffusion model here"
WAN_FAMILY = "Longtake runs the Wan family; use a causal Wan model"
EXTRA_INPUTS = (
    r"audio_proj\.(?!proj\.|norm_out\.)|casual_audio_encoder\.|face_adapter\.|motion_encoder\."
    r"|(^|\.)ref_conv\.|(q|k|v)_loras\.|patch_embedding_(pose|mask|global|fuse|ref_c)\.|\.cam_encoder\."
    r"|\.(ip|ref)_adapter\.|\.control_blocks_(dense|sparse)\.|\.motion_attn\."
    r"|(^|\.)text_projection\.0\.|\.[kv]_fusion\.|\.\w+_single_stream_[kv]_proj\.|\.emo_[kv]_proj\."
)
"""In the names of Wan's relatives, as kijai/ComfyUI-WanVideoWrapper `nodes_model_loading.py` knows
them.
"""
ELSEWHERE = r"\.weight\._data$|\.(qweight|int8_weight)$|\.weight\.(absmax|quant_map)$"
"""In the names of weights that quanto, Nunchaku, AWQ, TurboDiffusion or bitsandbytes packed."""
CLIP_VISION = r"vision_model\.|visual\.(transformer|blocks)\."

OTHERS = (
    Other(
        "packed for another program (quanto, Nunchaku, AWQ, bitsandbytes or TurboDiffusion)",
        ELSEWHERE,
        "ComfyUI has no layers for that; use an fp8, int8, NVFP4 or bf16 file of this model",
    ),
    Other(
        "a LoRA", r"\.lora_[AB]\.|\.lora_(up|down)\.|\.lora\.(up|down)\.|\.lokr_|\.hada_",
        "load the model it was made for, and apply this file to it with a LoRA loader",
    ),
    Other(
        "MAGI-1", r"videodit_blocks\.",
        "its architecture is not Wan's and Longtake cannot run it; use a causal Wan model such as "
        "Self-Forcing",
    ),
    Other(
        "Helios", r"(^|\.)patch_(short|mid|long)\.",
        "it takes its history as extra tokens instead of a KV cache, which Longtake cannot; use a "
        "causal Wan model such as Krea Realtime",
    ),
    Other(
        "Matrix-Game 3", r"\.action_model\.",
        "Longtake does not run its memory of places; use Matrix-Game 2, LingBot-World or minWM "
        "with a camera path", also=r"cam_injector_layer1|patch_embedding_wancamctrl",
    ),
    Other(
        "Matrix-Game 2 Temple Run", r"\.action_model\.",
        "its keys jump and slide, which no camera path says; use Matrix-Game 2's universal or GTA "
        "Drive model", without=r"\.action_model\.t_qkv\.",
    ),
    Other(
        "Matrix-Game 2's foundation model", r"blocks\.29\.action_model\.",
        "it is not causal: it sees the whole clip; use one of its distilled models",
    ),
    Other(
        "Wan VACE", r"(^|\.)vace_(patch_embedding|blocks)\.",
        "its module goes beside a model: choose the file in the loader of VACE modules, and load a "
        "causal Wan 2.1 model of the same size here",
    ),
    Other(
        "TurboDiffusion", r"\.proj_l\.(weight|bias)$",
        "Longtake lacks the linear part of its attention; use an rCM model, or Wan with a "
        "distillation LoRA",
    ),
    Other(
        "a Wan control, audio or character model",
        EXTRA_INPUTS,
        "its extra inputs are not supported; use a Wan 2.1 text-to-video or image-to-video model",
    ),
    Other(
        "FAR's causal Wan without AnyFlow's flow map", r"(^|\.)far_patch_embedding\.",
        "Longtake knows no settings for it; use an AnyFlow FAR model",
        without=r"(^|\.)delta_embed(ding|der)\.",
    ),
    Other(
        "the Wan 2.2 VAE", r"decoder\.upsamples\.0\.upsamples\.0\.residual\.", LOAD_VAE,
        is_vae=True,
    ),
    Other(
        "a Wan VAE",
        r"(decoder|encoder)\.middle\.0\.residual\.|decoder\.mid_block\.resnets\.0\.norm1\.gamma",
        LOAD_VAE, is_vae=True,
    ),
    Other(
        "a tiny VAE (TAEHV or lighttae)", r"^decoder\.\d+\.conv\.\d\.weight", LOAD_VAE, is_vae=True,
    ),
    Other(
        "the demo's VAE", r"^decoder\.\d+\.(join|middle)\.weight",
        "use the demo model loader, and a diffusion model here", is_vae=True,
    ),
    Other(
        "a ControlNet",
        r"^(control_model\.)?input_hint_block\.|(^|\.)controlnet_(cond_embedding|\w*blocks|x_embedder)\.",
        "control goes by a VACE module; choose a diffusion model here",
    ),
    Other("an SDXL checkpoint", r"^conditioner\.embedders\.\d\.", WAN_FAMILY),
    Other(
        "a Stable Diffusion model",
        r"^(model\.diffusion_model\.)?input_blocks\.\d+\.\d\.|^(unet\.)?down_blocks\.\d\.resnets\.",
        WAN_FAMILY,
    ),
    Other("Stable Diffusion 3", r"(^|\.)joint_blocks\.\d+\.", WAN_FAMILY),
    Other(
        "a VAE of another model, such as Stable Diffusion or Flux",
        r"^(first_stage_model\.|vae\.)?decoder\.mid(\.block_1|_block\.resnets\.0)\.norm1\.weight",
        "load the Wan VAE with Load VAE, and a diffusion model here",
    ),
    Other(
        "a CLIP text encoder",
        r"(^|\.)text_model\.encoder\.layers\.0\.|(^|\.)transformer\.resblocks\.0\.",
        "Wan reads prompts by umt5-xxl: load that with Load CLIP, and a diffusion model here",
        without=CLIP_VISION,
    ),
    Other(
        "a text encoder",
        r"^(shared|token_embedding|words)\.weight|encoder\.block\.0\.layer\.|spiece_model",
        "load it with Load CLIP of type `wan`, and a diffusion model here",
    ),
    Other(
        "a CLIP vision model", CLIP_VISION,
        "load it with Load CLIP Vision, and a diffusion model here",
    ),
    Other(
        "HunyuanVideo or Flux", r"(^|\.)(double_blocks|single_transformer_blocks)\.", WAN_FAMILY,
    ),
    Other(
        "LTX-Video", r"(^|\.)transformer_blocks\.\d+\.scale_shift_table", WAN_FAMILY,
    ),
    Other(
        "an upscaler",
        r"(^|\.)body\.\d+\.rdb1\.|\.RDB1\.conv1\.|(^|\.)layers\.\d+\.residual_group\."
        r"|^(params(_ema)?\.)?body\.\d+\.weight",
        "load it with Load Upscale Model, and a diffusion model here",
    ),
    Other(
        "an embedding (textual inversion)",
        r"^string_to_param\.|^(emb_params|clip_[lg]|t5xxl)$|^<[^>]+>$",
        "put it into models/embeddings, and choose a diffusion model here",
    ),
)  # fmt: skip


def other(stored: Iterable[str]) -> Other | None:
    """The kind of a file with tensors of these names, if it is listed above."""
    names = [unwrap(name) for name in stored]
    for kind in OTHERS:
        named, also, without = (
            any(re.search(pattern, name) for name in names)
            for pattern in (kind.named, kind.also, kind.without)
        )
        if named and also and not without:
            return kind
    return None
