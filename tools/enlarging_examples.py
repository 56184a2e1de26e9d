"""Example workflows that enlarge a shot: while it is made, and afterwards."""

from __future__ import annotations

from .example_nodes import Place, group_box, node, output_nodes, shot_nodes, world_nodes
from .example_places import PLACES, Example
from .example_shots import HEIGHT, SECONDS, WIDTH, text_nodes
from .examples import TEN_SECONDS

CASCADE_PLACES: dict[str, Place] = {
    **PLACES,
    "7": (1640, 0, 420, 460),
    "8": (2120, 0, 300, 400),
    "9": (840, 730, 320, 60),
    "10": (1220, 260, 340, 400),  # with its plan and both times
}


def cascade() -> Example:
    """The demo's shot and a stage behind it, as one shot."""
    api = {**world_nodes(TEN_SECONDS), **shot_nodes(seed=12, length=10.0), **output_nodes("10")}
    api["7"]["inputs"] = {"frames": ["6", 0], "refined": ["10", 0]}
    api["8"]["inputs"]["filename_prefix"] = "longtake/cascade"
    api["9"] = node("UpscaleModelLoader", "Load Upscale Model",
                    model_name="realesr-general-x4v3.pth")  # fmt: skip
    api["10"] = node("LongtakeUpscale", "Upscale (Stream)", frames=["6", 0],
                     upscale_model=["9", 0], scale=4.0, tile=512)  # fmt: skip
    groups = [
        group_box("What is shown", *CASCADE_PLACES["2"]),
        group_box("What enlarges it", *CASCADE_PLACES["10"]),
    ]
    return Example(api, CASCADE_PLACES, groups)


SHARP_PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 320),
    "2": (360, 330, 320, 130),
    "3": (360, 0, 420, 240),
    "4": (360, 560, 320, 90),
    "5": (840, 700, 340, 180),
    "6": (840, 0, 320, 620),
    "7": (1240, 0, 260, 80),
    "8": (1240, 260, 340, 540),  # with its plan and both times
    "9": (1660, 0, 420, 460),
    "10": (2140, 0, 300, 400),
}


def super_resolution() -> Example:
    """FlashVSR enlarges a shot while it is made."""
    flashvsr = "FlashVSR/diffusion_pytorch_model_streaming_dmd.safetensors"
    api = {
        **text_nodes(),
        "4": node("VAELoader", "Load VAE", vae_name="wan_2.1_vae.safetensors"),
        "5": node("LongtakeLoadFlashVSR", "Load FlashVSR (Stream)", model_name=flashvsr,
                  version="1"),
        "6": node("LongtakeSampler", "Diffusion-Forcing Sampler", model=["1", 0],
                  prompts=["3", 0], seed=7, width=WIDTH, height=HEIGHT, length=SECONDS,
                  length_unit="seconds"),
        "7": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["6", 0], vae=["4", 0]),
        "8": node("LongtakeSuperResolution", "Super-Resolution (Stream)", frames=["7", 0],
                  flashvsr=["5", 0], scale=2.0),
        "9": node("LongtakePreview", "Streaming Preview", frames=["7", 0], refined=["8", 0]),
        "10": node("LongtakeSaveVideo", "Save Video (Stream)", frames=["8", 0],
                   filename_prefix="longtake/sharp", format="mp4 (h264)", crf=18,
                   sheet_and_report=True),
    }  # fmt: skip
    group = group_box("What enlarges the shot", *SHARP_PLACES["8"])
    return Example(api, SHARP_PLACES, [group])


SEEDVR2_PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 260),
    "2": (360, 0, 240, 120),
    "3": (360, 180, 300, 100),
    "4": (720, 0, 240, 60),
    "5": (360, 640, 300, 90),
    "6": (720, 120, 300, 200),
    "7": (1080, 0, 300, 140),
    "8": (360, 790, 300, 110),
    "9": (1080, 260, 260, 80),
    "10": (1440, 0, 300, 300),
    "11": (1800, 0, 240, 80),
    "12": (1800, 140, 300, 200),
    "13": (2160, 0, 300, 120),
    "14": (2160, 180, 280, 140),
    "15": (2520, 0, 320, 400),
}


def seedvr2() -> Example:
    """SeedVR2, by ComfyUI's own nodes, enlarges a shot that is finished."""
    api = {
        "1": node("LoadVideo", "A finished shot", file="your_shot.mp4"),
        "2": node("GetVideoComponents", "Get Video Components", video=["1", 0]),
        "3": node("ImageScaleBy", "Upscale Image By", image=["2", 0], upscale_method="lanczos",
                  scale_by=2.0),
        "4": node("SeedVR2Preprocess", "SeedVR2 Preprocess", resized_images=["3", 0]),
        "5": node("VAELoader", "Load VAE", vae_name="seedvr2_ema_vae_fp16.safetensors"),
        "6": node("VAEEncodeTiled", "VAE Encode (Tiled)", pixels=["4", 0], vae=["5", 0],
                  tile_size=512, overlap=128, temporal_size=64, temporal_overlap=8),
        "7": node("SeedVR2TemporalChunk", "Split into clips", latent=["6", 0],
                  temporal_overlap=2, chunking_mode="auto"),
        "8": node("UNETLoader", "Load Diffusion Model", weight_dtype="default",
                  unet_name="seedvr2_3b_int8_convrot.safetensors"),
        "9": node("SeedVR2Conditioning", "SeedVR2 Conditioning", model=["8", 0],
                  vae_conditioning=["7", 0]),
        "10": node("KSampler", "KSampler", model=["8", 0], positive=["9", 0], negative=["9", 1],
                   latent_image=["7", 0], seed=7, steps=1, cfg=1.0, sampler_name="euler",
                   scheduler="simple", denoise=1.0),
        "11": node("SeedVR2TemporalMerge", "Cross-fade the clips", latents=["10", 0],
                   temporal_overlap=["7", 1]),
        "12": node("VAEDecodeTiled", "VAE Decode (Tiled)", samples=["11", 0], vae=["5", 0],
                   tile_size=512, overlap=128, temporal_size=64, temporal_overlap=8),
        "13": node("SeedVR2PostProcessing", "SeedVR2 Post-Processing", images=["12", 0],
                   original_resized_images=["3", 0], color_correction_method="lab"),
        "14": node("CreateVideo", "Create Video", images=["13", 0], audio=["2", 1],
                   fps=["2", 2]),
        "15": node("SaveVideo", "Save Video", video=["14", 0], filename_prefix="longtake/seedvr2",
                   format="auto", codec="auto"),
    }  # fmt: skip
    return Example(api, SEEDVR2_PLACES, [group_box("ComfyUI's own", *SEEDVR2_PLACES["9"])])
