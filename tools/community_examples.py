"""Example workflows for community files, which nobody has until they download these.

ComfyUI's front end turns these into the files of `example_workflows/community/`; see
`tests/in_core/server/test_canvas.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from .enlarging_examples import cascade, seedvr2, super_resolution
from .example_nodes import Place, group_box, node
from .example_places import Example, app_of_shot
from .example_shots import HEIGHT, PROMPTS, SECONDS, WIDTH, output_nodes, text_nodes
from .voice_example import VOICE_NOTE, voice

PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 320),
    "2": (0, 640, 300, 90),
    "3": (360, 330, 320, 130),
    "4": (360, 0, 420, 240),
    "5": (360, 560, 320, 90),
    "6": (0, 800, 300, 90),
    "7": (360, 800, 320, 240),
    "8": (740, 800, 280, 150),
    "9": (1080, 800, 280, 110),
    "10": (840, 330, 340, 260),
    "11": (1240, 0, 320, 620),
    "12": (1620, 0, 260, 80),
    "13": (1620, 160, 420, 460),
    "14": (2100, 0, 300, 400),
}


SELF_FORCING_PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 320),
    "2": (0, 640, 300, 110),
    "3": (360, 0, 420, 240),
    "4": (0, 810, 300, 130),
    "5": (840, 0, 320, 620),
    "6": (1220, 0, 260, 80),
    "7": (1220, 160, 420, 460),
    "8": (1700, 0, 300, 400),
}


def self_forcing() -> Example:
    """The first example by Self-Forcing 1.3B: a prompt that changes while the shot runs."""
    api = {
        **text_nodes(),
        "4": node("LongtakeLoadVAE", "Load Wan VAE", vae_name="wan_2.1_vae.safetensors",
                  dtype="auto", latents="auto"),
        "5": node("LongtakeSampler", "Diffusion-Forcing Sampler", model=["1", 0],
                  prompts=["3", 0], seed=7, width=WIDTH, height=HEIGHT,
                  length=SECONDS, length_unit="seconds"),
        **output_nodes(6, "self_forcing", rollout=["5", 0], vae=["4", 0]),
    }  # fmt: skip
    group = group_box("Length 0 is endless", *SELF_FORCING_PLACES["5"])
    return Example(api, SELF_FORCING_PLACES, [group], app_of_shot(3, 5, 7, 8))


ANYFLOW_PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 320),
    "2": (0, 640, 300, 110),
    "3": (360, 0, 420, 240),
    "4": (0, 810, 300, 130),
    "5": (360, 340, 320, 670),  # with its text and its picture, which appear at the first run
    "6": (840, 0, 320, 620),
    "7": (1220, 0, 260, 80),
    "8": (1220, 160, 420, 460),
    "9": (1700, 0, 300, 400),
}


def anyflow() -> Example:
    """A model that makes any number of steps: AnyFlow FAR 1.3B."""
    api = {
        **text_nodes(model="anyflow_far_1.3b.safetensors"),
        "4": node("LongtakeLoadVAE", "Load Wan VAE", vae_name="wan_2.1_vae.safetensors",
                  dtype="auto", latents="auto"),
        "5": node("LongtakeSchedule", "Diffusion-Forcing Schedule", model=["1", 0]),
        "6": node("LongtakeSampler", "Diffusion-Forcing Sampler", model=["1", 0],
                  prompts=["3", 0], schedule=["5", 0], seed=7, width=WIDTH, height=HEIGHT,
                  length=SECONDS, length_unit="seconds"),
        **output_nodes(7, "anyflow", rollout=["6", 0], vae=["4", 0]),
    }  # fmt: skip
    group = group_box("As many steps as you like", *ANYFLOW_PLACES["5"])
    return Example(api, ANYFLOW_PLACES, [group])


def control_video() -> Example:
    """The edges of a video of the user steer a causal 1.3B model through VACE's module."""
    api = {
        "1": node("LongtakeLoadModel", "Load Causal Video Model",
                  model_name="self_forcing_dmd.pt", family="auto"),
        "2": node("LongtakeLoadVace", "Load VACE Module", model=["1", 0],
                  vace_name="Wan2_1-VACE_module_1_3B_bf16.safetensors"),
        "3": node("CLIPLoader", "Load CLIP", type="wan", device="default",
                  clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors"),
        "4": node("LongtakePromptTimeline", "Prompt Timeline", clip=["3", 0], negative="",
                  text=PROMPTS),
        "5": node("VAELoader", "Load VAE", vae_name="wan_2.1_vae.safetensors"),
        "6": node("LoadVideo", "Your video", file="your_video.mp4"),
        "7": node("LongtakeVideoToFrames", "Video to Frames (Stream)", video=["6", 0], fps=16.0,
                  width=WIDTH, height=HEIGHT, start=0.0, length=SECONDS),
        "8": node("LongtakeCollect", "Collect (Stream)", stream=["7", 0], collect="images"),
        "9": node("Canny", "Edges (or depth, or pose)", image=["8", 0], low_threshold=0.2,
                  high_threshold=0.6),
        "10": node("LongtakeControlVideo", "Control Video (Stream)", vae=["5", 0],
                   control_frames=["9", 0], strength="0: 1\n8 (over 2): 0.4"),
        "11": node("LongtakeSampler", "Diffusion-Forcing Sampler", model=["2", 0],
                   prompts=["4", 0], control=["10", 0], seed=7, width=WIDTH, height=HEIGHT,
                   length=SECONDS, length_unit="seconds"),
        **output_nodes(12, "control", rollout=["11", 0], vae=["5", 0]),
    }  # fmt: skip
    return Example(api, PLACES, [group_box("What the shot follows", *PLACES["10"])])


STREET = "0: a narrow street of an old town by the sea, morning light, cinematic"
MOVES = """0: forward
3 (smooth 1): forward, turn right 15
6 (over 0.5): still
7: orbit left, tilt up 5"""
CAMERA_PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 320),
    "2": (360, 330, 320, 130),
    "3": (360, 0, 420, 240),
    "4": (360, 560, 320, 90),
    "5": (840, 0, 340, 300),
    "6": (1240, 0, 320, 620),
    "7": (1620, 0, 260, 80),
    "8": (1620, 160, 420, 560),
    "9": (2100, 0, 300, 400),
}


def camera_path() -> Example:
    """A text-to-video model with a camera follows lines of moves, or live keys."""
    api = {
        **text_nodes(STREET, "minwm_dmd.pt"),
        "4": node("VAELoader", "Load VAE", vae_name="wan_2.1_vae.safetensors"),
        "5": node("LongtakeCameraPath", "Camera Path", moves=MOVES, pose_file="",
                  poses_per="frame"),
        "6": node("LongtakeSampler", "Diffusion-Forcing Sampler", model=["1", 0],
                  prompts=["3", 0], camera=["5", 0], seed=7, width=WIDTH, height=HEIGHT,
                  length=SECONDS, length_unit="seconds"),
        **output_nodes(7, "camera", rollout=["6", 0], vae=["4", 0]),
    }  # fmt: skip
    group = group_box("How the camera moves", *CAMERA_PLACES["5"])
    return Example(api, CAMERA_PLACES, [group])


DRIVE = """0: forward
2: forward, pan right 20
4: left
5: back, tilt up 5"""
DRIVE_SIZE = {"width": 640, "height": 352}
DRIVE_PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 320),
    "2": (0, 620, 300, 90),
    "3": (360, 620, 320, 110),
    "4": (0, 850, 300, 340),
    "5": (0, 1240, 300, 90),
    "6": (360, 1240, 320, 110),
    "7": (360, 780, 320, 90),
    "8": (740, 620, 320, 260),
    "9": (360, 0, 420, 300),
    "10": (1120, 0, 320, 620),
    "11": (1500, 0, 260, 80),
    "12": (1500, 160, 420, 520),
    "13": (1980, 0, 300, 400),
}


def keys_and_mouse() -> Example:
    """A picture becomes a place to walk in: Matrix-Game 2 follows lines of moves, or live keys."""
    api = {
        "1": node("LongtakeLoadModel", "Load Causal Video Model", family="auto",
                  model_name="base_distill.safetensors"),
        "2": node("LongtakeLoadDemoModel", "Any CLIP: no word is read"),
        "3": node("CLIPTextEncode", "Empty prompt", clip=["2", 1], text=""),
        "4": node("LoadImage", "Where the shot starts", image="your_picture.png"),
        "5": node("CLIPVisionLoader", "Load CLIP Vision", clip_name="clip_vision_h.safetensors"),
        "6": node("CLIPVisionEncode", "CLIP Vision Encode", clip_vision=["5", 0], image=["4", 0],
                  crop="none"),
        "7": node("VAELoader", "Load VAE", vae_name="wan_2.1_vae.safetensors"),
        "8": node("WanImageToVideo", "WanImageToVideo", positive=["3", 0], negative=["3", 0],
                  vae=["7", 0], **DRIVE_SIZE, length=81, batch_size=1,
                  clip_vision_output=["6", 0], start_image=["4", 0]),
        "9": node("LongtakeCameraPath", "Keys and mouse", moves=DRIVE, pose_file="",
                  poses_per="frame"),
        "10": node("LongtakeSampler", "Diffusion-Forcing Sampler", model=["1", 0],
                   prompts=["8", 0], picture=["8", 0], camera=["9", 0], seed=7, **DRIVE_SIZE,
                   length=SECONDS, length_unit="seconds"),
        **output_nodes(11, "walk", rollout=["10", 0], vae=["7", 0]),
    }  # fmt: skip
    group = group_box("What the keys and the mouse do", *DRIVE_PLACES["9"])
    return Example(api, DRIVE_PLACES, [group])


SOUND_PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 120),
    "2": (0, 640, 300, 140),
    "3": (360, 520, 340, 460),
    "4": (0, 840, 300, 140),
    "5": (760, 0, 420, 420),
    "6": (1240, 0, 320, 620),
    "7": (1620, 0, 260, 80),
    "8": (1620, 160, 420, 420),
    "9": (2100, 0, 300, 400),
}


def sound_curve() -> Example:
    """Music turns day into night, beat by beat, in the demo's world."""
    api = {
        "1": node("LongtakeLoadDemoModel", "Load Demo Model"),
        "2": node("LoadAudio", "Your music", audio="your_music.mp3"),
        "3": node("LongtakeSoundCurve", "Sound Curve", audio=["2", 0], follow="bass", low=0.0,
                  high=1.0, fall=1.0, every=0.25),
        "4": node("CLIPTextEncode", "What loud music shows", clip=["1", 1],
                  text="a red ball bouncing over green hills at night, clear sky, static camera"),
        "5": node("LongtakePromptTimeline", "Prompt Timeline", clip=["1", 1], negative="",
                  text="0: a red ball bouncing over green hills by day, clear sky, static camera",
                  mix=["3", 0], mix_prompt=["4", 0]),
        "6": node("LongtakeSampler", "Diffusion-Forcing Sampler", model=["1", 0],
                  prompts=["5", 0], seed=7, length=20.0, length_unit="seconds"),
        **output_nodes(7, "music", rollout=["6", 0], vae=["1", 2], audio=["2", 0]),
    }  # fmt: skip
    group = group_box("What the shot hears", *SOUND_PLACES["3"])
    return Example(api, SOUND_PLACES, [group])


COMMUNITY: dict[str, Callable[[], Example]] = {
    "anyflow": anyflow,
    "camera_path": camera_path,
    "cascade": cascade,
    "control_video": control_video,
    "keys_and_mouse": keys_and_mouse,
    "seedvr2": seedvr2,
    "self_forcing": self_forcing,
    "sound_curve": sound_curve,
    "super_resolution": super_resolution,
    "voice": voice,
}

NOTES: dict[str, str] = {
    "anyflow": """\
- AnyFlow FAR 1.3B makes a shot in 4 steps a chunk, or in any number. More give better pictures.
- Weights, licence `other`: nvidia/AnyFlow-FAR-Wan2.1-1.3B-Diffusers, transformer, here renamed.
- Set `steps` to 1, 2, 8 or 32: the file stays the same. Leave `solver` at from model.
""",
    "camera_path": """\
- The camera of minWM 1.3B follows lines of moves. While it runs, *Drive* moves it with your keys.
- Weights, Apache-2.0: MIN-Lab/minWM, Wan21/Action2V/dmd/model.pt, here renamed to minwm_dmd.pt.
- Try another move or speed; the help page of Camera Path lists all. A file of poses works too.
""",
    "cascade": """\
- The demo's 96x64 becomes 384x256 while the shot is made: one shot, one seed, one plan.
- Weights, BSD-3: realesr-general-x4v3.pth of xinntao/Real-ESRGAN (5 MB), in models/upscale_models.
- Any upscale model fits; so does Super-Resolution (Stream) in its place. R shows small or large.
""",
    "control_video": """\
- A shot of Self-Forcing 1.3B follows the edges of your video; VACE's module needs no training.
- Weights of Hugging Face, Apache-2.0: gdhe17/Self-Forcing, VACE's module in Kijai/WanVideo_comfy.
- Put depth or pose nodes in Canny's place, or connect masks or a reference to Control Video.
""",
    "keys_and_mouse": """\
- Matrix-Game 2 walks through your picture. While it runs, *Drive* takes your keys and your mouse.
- Weights, MIT: Skywork/Matrix-Game-2.0, base_distilled_model. Its VAE is Wan 2.1's.
- clip_vision_h.safetensors is in Comfy-Org's Wan_2.1_ComfyUI_repackaged.
""",
    "seedvr2": """\
- SeedVR2, in ComfyUI from 0.33 on, enlarges a shot that Save Video (Stream) has finished.
- Weights, Apache-2.0: Comfy-Org/SeedVR2, one file of diffusion_models and the one of vae.
- Memory holds the whole shot. For minutes of video use Super-Resolution (Stream).
""",
    "self_forcing": """\
- Self-Forcing 1.3B makes ten seconds of 832x480, and you watch from the first chunk on.
- Weights of Hugging Face, Apache-2.0: gdhe17/Self-Forcing; text encoder and VAE: Comfy-Org.
- For 12 GB and more. With 8 GB set `storage` of a KV Cache Settings node to int8.
""",
    "sound_curve": """\
- The bass of your music turns day into night in the demo's world; the video has the music too.
- Choose your file in Load Audio. No weights to download.
- Follow the onsets instead, or connect the lines to `guidance`; the help page has a table.
""",
    "super_resolution": """\
- FlashVSR makes 1664x960 of a shot of Self-Forcing 1.3B while the shot is made.
- Weights, Apache-2.0: gdhe17/Self-Forcing, and JunhaoZhuang/FlashVSR, four files in one folder.
- The help page of Load FlashVSR says where the fourth file is. Is memory short? Lower scale.
""",
    "voice": VOICE_NOTE,
}
NOTE_PLACE: Place = (0, 380, 300, 210)
