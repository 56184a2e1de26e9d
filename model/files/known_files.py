"""Files that the examples name: where a host looks for them, and where their authors publish them.

Errors and the examples' canvases say both, so that nobody has to search.
"""

from __future__ import annotations

from dataclasses import dataclass

HUGGING_FACE = "https://huggingface.co"
WAN = f"{HUGGING_FACE}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
SEEDVR2 = f"{HUGGING_FACE}/Comfy-Org/SeedVR2/resolve/main"
FLASHVSR = "diffusion_pytorch_model_streaming_dmd.safetensors"
FLASHVSR_REMEDY = (
    "put FlashVSR's four files into models/diffusion_models/FlashVSR (Hugging Face: "
    "JunhaoZhuang/FlashVSR)"
)
DIFFUSION = "diffusion_models"


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file by its name in a loader, the model folder, and the address of the download.

    `advice` is what to do where it is missing, if that is more than to download it.
    """

    name: str
    directory: str
    url: str
    advice: str = ""

    @property
    def remedy(self) -> str:
        """What to do where the file is missing."""
        return self.advice or f"download {self.url}"


KNOWN_FILES = {
    file.name: file
    for file in (
        KnownFile("self_forcing_dmd.pt", DIFFUSION,
                  f"{HUGGING_FACE}/gdhe17/Self-Forcing/resolve/main/checkpoints/"
                  "self_forcing_dmd.pt"),
        KnownFile("minwm_dmd.pt", DIFFUSION,
                  f"{HUGGING_FACE}/MIN-Lab/minWM/resolve/main/Wan21/Action2V/dmd/model.pt"),
        KnownFile("base_distill.safetensors", DIFFUSION,
                  f"{HUGGING_FACE}/Skywork/Matrix-Game-2.0/resolve/main/base_distilled_model/"
                  "base_distill.safetensors"),
        KnownFile("livetalk_1.3b.safetensors", DIFFUSION,
                  f"{HUGGING_FACE}/GAIR/LiveTalk-1.3B-V0.1/resolve/main/model.safetensors"),
        KnownFile("anyflow_far_1.3b.safetensors", DIFFUSION,
                  f"{HUGGING_FACE}/nvidia/AnyFlow-FAR-Wan2.1-1.3B-Diffusers/resolve/main/"
                  "transformer/diffusion_pytorch_model.safetensors"),
        KnownFile("wav2vec2-base-960h.safetensors", "audio_encoders",
                  f"{HUGGING_FACE}/facebook/wav2vec2-base-960h/resolve/main/model.safetensors"),
        KnownFile("Wan2_1-VACE_module_1_3B_bf16.safetensors", DIFFUSION,
                  f"{HUGGING_FACE}/Kijai/WanVideo_comfy/resolve/main/"
                  "Wan2_1-VACE_module_1_3B_bf16.safetensors"),
        KnownFile(f"FlashVSR/{FLASHVSR}", DIFFUSION,
                  f"{HUGGING_FACE}/JunhaoZhuang/FlashVSR/resolve/main/{FLASHVSR}",
                  FLASHVSR_REMEDY),
        KnownFile("seedvr2_3b_int8_convrot.safetensors", DIFFUSION,
                  f"{SEEDVR2}/diffusion_models/seedvr2_3b_int8_convrot.safetensors"),
        KnownFile("seedvr2_ema_vae_fp16.safetensors", "vae",
                  f"{SEEDVR2}/vae/seedvr2_ema_vae_fp16.safetensors"),
        KnownFile("wan_2.1_vae.safetensors", "vae", f"{WAN}/vae/wan_2.1_vae.safetensors"),
        KnownFile("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders",
                  f"{WAN}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors"),
        KnownFile("clip_vision_h.safetensors", "clip_vision",
                  f"{WAN}/clip_vision/clip_vision_h.safetensors"),
        KnownFile("realesr-general-x4v3.pth", "upscale_models",
                  "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.5.0/"
                  "realesr-general-x4v3.pth"),
    )
}  # fmt: skip
"""By the name that the example's loader holds."""

FOLDERS = {
    ("LongtakeLoadModel", "model_name"): DIFFUSION,
    ("LongtakeLoadFlashVSR", "model_name"): DIFFUSION,
    ("LongtakeLoadVace", "vace_name"): DIFFUSION,
    ("LongtakeLoadVAE", "vae_name"): "vae",
    ("LongtakeLoadLora", "lora_name"): "loras",
    ("UNETLoader", "unet_name"): DIFFUSION,
    ("VAELoader", "vae_name"): "vae",
    ("CLIPLoader", "clip_name"): "text_encoders",
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("AudioEncoderLoader", "audio_encoder_name"): "audio_encoders",
}
"""The model folder of a loader's input, by the node's type and the input's name."""


def missing_file(name: object, folder: str, present: str = "") -> str:
    """Half a sentence on a file that is not in a model folder: where it belongs, what to do.

    `present` are the files that are there, for a reader who cannot see them.
    """
    known = KNOWN_FILES.get(str(name))
    remedy = f"{known.remedy}, or choose" if known else "put it there, or choose"
    there = f" (there: {present})" if present else ""
    return f"{name!r} is not in models/{folder}{there}; {remedy} another file"
