"""The building blocks of the example workflows: nodes in API form, numbered as in the examples."""

from __future__ import annotations

from typing import Any

from ..model.files.known_files import KNOWN_FILES

Api = dict[str, dict[str, Any]]
Place = tuple[int, int, int, int]
"""Left, top, width, height on the canvas, in its pixels."""

RED = "a red ball bouncing over green hills by day, clear sky, the camera pans left"


def node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    """Return a node in API form."""
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


FAST, FULL = "fast", "full"  # the demo's qualities: full takes guidance, noise and any schedule
FEW_STEPS = 3  # enough for quality full where a shot is to come soon


def world_nodes(text: str, quality: str = FAST) -> Api:
    """Return nodes 1 and 2: the demo model and the prompts."""
    return {
        "1": node("LongtakeLoadDemoModel", "Load Demo Model", quality=quality),
        "2": node(
            "LongtakePromptTimeline", "Prompt Timeline", clip=["1", 1], text=text, negative=""
        ),
    }


def shot_nodes(*, seed: int, length: float) -> Api:
    """Return nodes 3 to 6: settings that fit any model, sampler and decoder."""
    return {
        "3": node("LongtakeKVCacheSettings", "KV Cache Settings"),
        "4": node("LongtakeSchedule", "Diffusion-Forcing Schedule", model=["1", 0]),
        "5": sampler_node(
            "Diffusion-Forcing Sampler",
            prompts=["2", 0], seed=seed, length=length, length_unit="seconds",
        ),
        "6": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["5", 0], vae=["1", 2]),
    }  # fmt: skip


def picture_nodes(first: int, title: str, place: str, *, seed: int, text: str = RED) -> Api:
    """Return six nodes, numbered from `first`, that make a picture and its latent."""
    sampler, prompt, decoder, frames, picture, latent = (str(first + i) for i in range(6))
    return {
        sampler: sampler_node(
            title, prompts=[prompt, 0], seed=seed, length=1.0, length_unit="frames"
        ),
        prompt: node("CLIPTextEncode", f"What the {title.lower()} shows", clip=["1", 1], text=text),
        decoder: node(
            "LongtakeVAEDecode", "VAE Decode (Stream)", rollout=[sampler, 0], vae=["1", 2]
        ),
        frames: node("LongtakeCollect", "Collect (Stream)", stream=[decoder, 0]),
        picture: node("ImageFromBatch", place, image=[frames, 0], batch_index=0, length=1),
        latent: node("LongtakeVAEEncode", "VAE Encode (Stream)", pixels=[picture, 0], vae=["1", 2]),
    }


def known_frames_node(title: str, latent: str, *, start: float, **inputs: Any) -> dict[str, Any]:
    """Return a Known Frames node for a node's clean latent, from second `start` on."""
    return node(
        "LongtakeKnownFrames", title, latent=[latent, 0], start=start, start_unit="seconds",
        spacing=1, level=0.0, ahead=0, **inputs,
    )  # fmt: skip


def guidance_node(title: str, **inputs: Any) -> dict[str, Any]:
    """Return a History Guidance node; inputs that are not given keep their defaults."""
    return node("LongtakeHistoryGuidance", title, **inputs)


def guided_shot_nodes(sampler: str, guidance: str, *, seed: int, length: float) -> Api:
    """Return the shot with another guidance, and its decoder in the next node."""
    decoder = str(int(sampler) + 1)
    shot = {"prompts": ["2", 0], "guidance": [guidance, 0], "seed": seed, "length": length}
    return {
        sampler: sampler_node("The shot under this guidance", **shot, length_unit="seconds"),
        decoder: node(
            "LongtakeVAEDecode", "VAE Decode (Stream)", rollout=[sampler, 0], vae=["1", 2]
        ),
    }


def clip_nodes() -> Api:
    """Return nodes 9 to 14: a clip as a video file, and the file as frames and sound."""
    return {
        "9": sampler_node("Clip", prompts=["10", 0], seed=12, length=6.0, length_unit="seconds"),
        "10": node("CLIPTextEncode", "What the clip shows", clip=["1", 1], text=RED),
        "11": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["9", 0], vae=["1", 2]),
        "12": node("LongtakeCollect", "Your video here", stream=["11", 0], collect="video"),
        "14": video_frames_node("Video to Frames (Stream)", start=0.0),
    }


def video_frames_node(title: str, *, start: float) -> dict[str, Any]:
    """Return a node that reads the file of node 12 from second `start` on."""
    return node(
        "LongtakeVideoToFrames", title, video=["12", 1], fps=16.0, width=96, height=64,
        start=start, length=0.0,
    )  # fmt: skip


def sampler_node(title: str, **inputs: Any) -> dict[str, Any]:
    """Return a sampler of the demo's size with the settings of the shot."""
    return node(
        "LongtakeSampler", title, model=["1", 0], schedule=["4", 0], kv_cache=["3", 0],
        width=96, height=64, **inputs,
    )  # fmt: skip


def output_nodes(frames: str) -> Api:
    """Return nodes 7 and 8: the preview and the file, side by side."""
    return {
        "7": node("LongtakePreview", "Streaming Preview", frames=[frames, 0]),
        "8": node(
            "LongtakeSaveVideo", "Save Video (Stream)", frames=[frames, 0],
            filename_prefix="longtake/clip", format="mp4 (h264)", crf=18, sheet_and_report=True,
        ),
    }  # fmt: skip


def models_of(api: Api) -> dict[str, list[dict[str, str]]]:
    """Return the downloads of each loader as ComfyUI's templates declare them: by node number."""
    files_of = {
        number: [KNOWN_FILES[value] for value in one["inputs"].values()
                 if isinstance(value, str) and value in KNOWN_FILES]
        for number, one in api.items()
    }  # fmt: skip
    return {
        number: [{"name": f.name, "directory": f.directory, "url": f.url} for f in files]
        for number, files in files_of.items()
        if files
    }


def group_box(title: str, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """Return a frame around the node at this place."""
    return {"title": title, "bounding": [left - 15, top - 85, width + 30, height + 100]}
