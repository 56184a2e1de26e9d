"""The example of a picture that speaks: LiveTalk, a portrait and a recording of the user."""

from __future__ import annotations

from .example_nodes import Api, Place, group_box, node
from .example_places import Example
from .example_shots import output_nodes

SIDES = {"width": 512, "height": 512}
SPEAKER = (
    "A realistic video of a person speaking directly to the camera, with steady eye contact, clear "
    "facial features and precise lip movements"
)
SECONDS = 8.0
PLACES: dict[str, Place] = {
    "1": (0, 0, 300, 320),
    "2": (0, 620, 300, 110),
    "3": (360, 0, 400, 220),
    "4": (360, 280, 400, 340),
    "5": (0, 790, 300, 90),
    "6": (360, 680, 400, 240),
    "7": (360, 980, 400, 90),
    "8": (0, 940, 300, 140),
    "9": (820, 760, 300, 160),
    "10": (820, 0, 320, 620),
    "11": (1200, 0, 260, 80),
    "12": (1200, 160, 420, 520),
    "13": (1680, 0, 300, 400),
}


def voice() -> Example:
    """A person's picture speaks a recording, chunk by chunk."""
    api: Api = {
        "1": node("LongtakeLoadModel", "Load Causal Video Model", family="auto",
                  model_name="livetalk_1.3b.safetensors"),
        "2": node("CLIPLoader", "Load CLIP", type="wan", device="default",
                  clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors"),
        "3": node("CLIPTextEncode", "How the person speaks", clip=["2", 0], text=SPEAKER),
        "4": node("LoadImage", "Who speaks", image="your_picture.png"),
        "5": node("VAELoader", "Load VAE", vae_name="wan_2.1_vae.safetensors"),
        "6": node("WanImageToVideo", "WanImageToVideo", positive=["3", 0], negative=["3", 0],
                  vae=["5", 0], **SIDES, length=5, batch_size=1, start_image=["4", 0]),
        "7": node("AudioEncoderLoader", "Load Audio Encoder",
                  audio_encoder_name="wav2vec2-base-960h.safetensors"),
        "8": node("LoadAudio", "What the person says", audio="your_voice.wav"),
        "9": node("LongtakeVoice", "Voice", picture=["6", 0], audio_encoder=["7", 0],
                  audio=["8", 0]),
        "10": node("LongtakeSampler", "Diffusion-Forcing Sampler", model=["1", 0],
                   prompts=["3", 0], picture=["9", 0], seed=7, **SIDES, length=SECONDS,
                   length_unit="seconds"),
        **output_nodes(11, "voice", rollout=["10", 0], vae=["5", 0], audio=["8", 0]),
    }  # fmt: skip
    group = group_box("What the picture says", *PLACES["9"])
    return Example(api, PLACES, [group])


VOICE_NOTE = """\
- LiveTalk 1.3B makes your picture speak your recording. AvatarForcing fits too, at 832x480.
- Weights, no commercial use: GAIR/LiveTalk-1.3B-V0.1, here renamed to livetalk_1.3b.safetensors.
- In models/audio_encoders: model.safetensors of facebook/wav2vec2-base-960h, renamed too.
"""
