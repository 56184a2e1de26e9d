"""The example workflows and the blueprint, in API form with where their nodes stand.

ComfyUI's front end makes the files of `example_workflows/` and `subgraphs/` out of these, see
`tests/in_core/server/test_canvas.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Api = dict[str, dict[str, Any]]
Place = tuple[int, int, int, int]
"""Left, top, width, height on the canvas, in its pixels."""

TEN_SECONDS = """0: a red ball bouncing over green hills by day, clear sky, the camera pans left
5: a blue ball bouncing over snowy mountains at sunset, clear sky, the camera pans left"""
HALF_A_MINUTE = """0: a red ball bouncing over green hills by day, clear sky, the camera pans left
7.5: a yellow ball bouncing over desert dunes at sunset, clear sky, the camera pans left
15: a purple ball bouncing over snowy mountains at night, clear sky, the camera pans left
22.5: a white ball bouncing over green hills by day, cloudy sky, the camera pans right"""

THERE_AND_BACK = """0: a red ball bouncing over green hills by day, clear sky, the camera pans left
8: a red ball bouncing over green hills by day, clear sky, the camera pans right"""
YELLOW = "a yellow ball bouncing over desert dunes at sunset, clear sky, the camera pans left"
FROM_A_PICTURE = f"""0: {YELLOW}
4: a yellow ball bouncing over snowy mountains at night, clear sky, the camera pans left"""
RED = "a red ball bouncing over green hills by day, clear sky, the camera pans left"
REDRAWN = "0: a blue ball bouncing over snowy mountains at sunset, clear sky, the camera pans left"


@dataclass(frozen=True, slots=True)
class Example:
    """A workflow in API form, and where each node stands."""

    api: Api
    places: dict[str, Place]
    groups: list[dict[str, Any]] = field(default_factory=list)


def node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    """A node in API form."""
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


def text_to_stream() -> Example:
    """A shot with one change of prompt, watched and saved while it is made."""
    api = {**_world(TEN_SECONDS), **_shot(seed=12, length=10.0), **_outputs("6")}
    return Example(api, PLACES, [_group("What is shown", 320, 0, 460, 220)])


def long_shot() -> Example:
    """Half a minute on constant memory, with a prompt every few seconds."""
    api = {**_world(HALF_A_MINUTE), **_shot(seed=3, length=30.0), **_outputs("6")}
    groups = [
        _group("What is shown, and when", 320, 0, 460, 220),
        _group("Constant memory: the model's window", 320, 330, 300, 250),
    ]
    return Example(api, PLACES, groups)


def image_to_stream() -> Example:
    """A picture, made here so that there is one, and the shot that begins with it."""
    picture = _picture(9, "Picture", "Your picture here", seed=11, text=YELLOW)
    api = {**_world(FROM_A_PICTURE), **_shot(seed=4, length=8.0), **picture, **_outputs("6")}
    api["5"]["inputs"]["known_frames"] = ["14", 0]
    groups = [_group("Any Load Image can stand here", *PICTURE["13"])]
    return Example(api, {**PLACES, **PICTURE}, groups)


def first_and_last_picture() -> Example:
    """Two pictures, made here so that there are some, and the way from one to the other."""
    first = _picture(9, "First picture", "First picture here", seed=11)
    last = _picture(15, "Last picture", "Last picture here", seed=21)
    last["20"]["inputs"]["pictures"] = "later keyframes"
    clips = {
        "21": _known("Begins the shot", "14", start=0.0),
        "22": _known("Ends the shot", "20", start=2.9, known_frames=["21", 0]),
    }
    api = {**_world(f"0: {RED}"), **_shot(seed=4, length=3.0), **first, **last, **clips,
           **_outputs("6")}  # fmt: skip
    api["4"]["inputs"] |= {"schedule": "full sequence", "steps": 16}
    api["5"]["inputs"]["known_frames"] = ["22", 0]
    lower = {str(int(one) + 6): (x, y + 520, w, h) for one, (x, y, w, h) in PICTURE.items()}
    known = {"21": (2240, 1340, 300, 230), "22": (2240, 1860, 300, 230)}
    groups = [_group("Any Load Image can stand here", *PICTURE["13"]),
              _group("And here", *lower["19"])]  # fmt: skip
    return Example(api, {**PLACES, **PICTURE, **lower, **known}, groups)


def video_to_stream() -> Example:
    """A clip, made here so that there is one, and the shot that redraws it under another prompt."""
    api = {**_world(REDRAWN), **_shot(seed=4, length=8.0), **_clip(), **_outputs("6")}
    api["15"] = node(
        "LongtakeKnownVideo", "Known Video (Stream)", frames=["14", 0], vae=["1", 2], start=0.0,
        start_unit="seconds", level=0.8,
    )  # fmt: skip
    api["5"]["inputs"]["known_frames"] = ["15", 0]
    api["8"]["inputs"]["audio"] = ["14", 1]
    places = {**PLACES, **BELOW, **FILE, "15": (1980, 1340, 300, 200)}
    groups = [_group(ANY_VIDEO, *FILE["12"]), _group("How much is redrawn", *places["15"])]
    return Example(api, places, groups)


def continue_video() -> Example:
    """A clip, made here so that there is one, gone on with: its own pictures and sound, then new
    ones that begin with its last two seconds.
    """
    api = {**_world(FROM_A_PICTURE), **_shot(seed=4, length=8.0), **_clip(), **_outputs("17")}
    api |= {
        "15": _read("The end of it", start=-2.06),
        "16": node("LongtakeVAEEncode", "VAE Encode (Stream)", pixels=["15", 0], vae=["1", 2]),
        "17": node(
            "LongtakeSpliceRollouts", "Splice Rollouts", first=["14", 0], second=["6", 0],
            overlap=33, method="best cut",
        ),
    }  # fmt: skip
    api["10"]["inputs"]["text"] = YELLOW
    api["5"]["inputs"]["known_frames"] = ["16", 0]
    api["8"]["inputs"]["audio"] = ["14", 1]
    places = {
        **PLACES, **BELOW, **FILE, "15": (1600, 1660, 300, 230), "16": (1980, 1660, 260, 80),
        "17": (1220, 180, 300, 130), "7": (1600, 0, 420, 460), "8": (2080, 0, 300, 220),
    }  # fmt: skip
    return Example(api, places, [_group(ANY_VIDEO, *FILE["12"])])


def fork_after_rewind() -> Example:
    """A shot, rewound to where it shall go another way, forked there, and both side by side."""
    forked = {
        "9": node("LongtakeEditRollout", "Rewind", rollout=["5", 0], action="rewind", at=2.5),
        "10": node(
            "LongtakeEditRollout", "Fork", rollout=["9", 0], action="fork", new_prompt=YELLOW
        ),
        "11": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["10", 0], vae=["1", 2]),
        "12": node(
            "LongtakeCompareRollouts", "Compare Rollouts", frames_a=["6", 0], frames_b=["11", 0],
            layout="row", labels="first\nforked",
        ),
        "13": node("LongtakeRolloutInfo", "Rollout Info", rollout=["10", 0]),
    }  # fmt: skip
    api = {**_world(f"0: {RED}"), **_shot(seed=5, length=8.0), **forked, **_outputs("12")}
    places = {
        **PLACES, "9": (1220, 200, 320, 260), "10": (1220, 540, 320, 260),
        "11": (1600, 440, 260, 80), "12": (1600, 0, 320, 220), "13": (1600, 620, 340, 220),
        "7": (1980, 0, 420, 360), "8": (2460, 0, 300, 200),
    }  # fmt: skip
    return Example(api, places, [_group("Another way from here on", 1220, 200, 320, 620)])


def long_memory() -> Example:
    """There and back again: keys that differ stay, and queries read blocks of them where that was
    measured to be faster.
    """
    api = {**_world(THERE_AND_BACK), **_shot(seed=5, length=16.0), **_outputs("6")}
    api["9"] = node(
        "LongtakeSparseAttention", "ANN-Sparse Attention", model=["1", 0], preset="balanced",
        temp_cache=True, merge_above=0.95, self_attention="where faster", density=0.3,
        recall_floor=0.85, prompt_attention="merge padding", keep="what differs", kernel="auto",
    )  # fmt: skip
    api["5"]["inputs"]["model"] = ["9", 0]
    places = {**PLACES, "9": (0, 520, 280, 500)}
    return Example(api, places, [_group("What differs stays", 0, 520, 280, 500)])


def history_guidance() -> Example:
    """One shot in four ways of guiding, side by side."""
    strong = {"preset": "vanilla", "scale": 3.0}
    ways = {
        "9": _guided("Strongly away from no history", **strong),
        "12": _guided("The same, in early steps only", from_level=0.7, **strong),
        "18": _guided("Toward noisy history", preset="fractional", scale=3.0),
    }  # fmt: skip
    shots = {**_way("10", "9"), **_way("13", "12"), **_way("16", "18")}
    compared = node(
        "LongtakeCompareRollouts", "Compare Rollouts", frames_a=["6", 0], frames_b=["11", 0],
        frames_c=["14", 0], frames_d=["17", 0], layout="grid",
        labels="text only\nvanilla 3\nvanilla 3, early\nfractional 3",
    )  # fmt: skip
    api = {**_world(f"0: {RED}"), **_shot(seed=5, length=16.0), **ways, **shots, "19": compared,
           **_outputs("19")}  # fmt: skip
    places = {
        **PLACES, "9": (0, 1340, 300, 340), "10": (360, 1340, 320, 500), "11": (740, 1340, 260, 80),
        "12": (1060, 1340, 300, 340), "13": (1420, 1340, 320, 500),
        "14": (1800, 1340, 260, 80), "18": (2120, 1340, 300, 340), "16": (2480, 1340, 320, 500),
        "17": (2860, 1340, 260, 80), "19": (1220, 180, 320, 260), "7": (1600, 0, 420, 460),
        "8": (2080, 0, 300, 200),
    }  # fmt: skip
    groups = [_group("What the others are compared with", 840, 0, 320, 500)]
    return Example(api, places, groups)


EXAMPLES: dict[str, Callable[[], Example]] = {
    "1_text_to_stream": text_to_stream,
    "2_long_shot": long_shot,
    "3_image_to_stream": image_to_stream,
    "4_video_to_stream": video_to_stream,
    "5_continue_video": continue_video,
    "6_first_and_last_picture": first_and_last_picture,
    "7_fork_after_rewind": fork_after_rewind,
    "8_long_memory": long_memory,
    "9_history_guidance": history_guidance,
}
"""By file name, from easy to advanced: a number puts them in this order in the template browser."""
BLUEPRINT = "Long shot"
INSIDE = ("2", "4", "5", "6")
PROMOTED = (
    ("2", "text"), ("5", "length"), ("5", "length_unit"), ("5", "width"), ("5", "height"),
    ("5", "cfg"), ("4", "steps"),
)  # fmt: skip
DESCRIPTION = (
    "Prompts at times become a stream of frames: timeline, schedule, sampler and decoder in one."
)
PLACES: dict[str, Place] = {
    "1": (0, 0, 260, 100),
    "2": (320, 0, 460, 220),
    "3": (320, 330, 300, 250),
    "4": (320, 660, 300, 350),
    "5": (840, 0, 320, 500),
    "6": (1220, 0, 260, 80),
    "7": (1220, 160, 420, 460),
    "8": (1700, 0, 300, 200),
}

BELOW: dict[str, Place] = {
    "9": (480, 1340, 320, 320),
    "10": (0, 1340, 420, 180),
    "11": (880, 1340, 260, 80),
}
PICTURE: dict[str, Place] = {
    **BELOW,
    "12": (1220, 1340, 260, 80),
    "13": (1540, 1340, 280, 110),
    "14": (1880, 1340, 300, 130),
}
FILE: dict[str, Place] = {"12": (1220, 1340, 280, 110), "14": (1600, 1340, 300, 230)}
ANY_VIDEO = "Any Load Video can stand here"


def _world(text: str) -> Api:
    """Nodes 1 and 2: the demo model and the prompts."""
    return {
        "1": node("LongtakeLoadDemoModel", "Load Demo Model"),
        "2": node(
            "LongtakePromptTimeline", "Prompt Timeline", clip=["1", 1], text=text, negative=""
        ),
    }


def _shot(*, seed: int, length: float) -> Api:
    """Nodes 3 to 6: settings, all from the model so that any model fits, sampler and decoder."""
    return {
        "3": node("LongtakeKVCacheSettings", "KV Cache Settings"),
        "4": node("LongtakeSchedule", "Diffusion-Forcing Schedule", model=["1", 0]),
        "5": _sampler(
            "Diffusion-Forcing Sampler",
            prompts=["2", 0], seed=seed, length=length, length_unit="seconds",
        ),
        "6": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["5", 0], vae=["1", 2]),
    }  # fmt: skip


def _picture(first: int, title: str, place: str, *, seed: int, text: str = RED) -> Api:
    """Six nodes, numbered from `first` on: a picture and its latent."""
    sampler, prompt, decoder, frames, picture, latent = (str(first + i) for i in range(6))
    return {
        sampler: _sampler(title, prompts=[prompt, 0], seed=seed, length=1.0, length_unit="frames"),
        prompt: node("CLIPTextEncode", f"What the {title.lower()} shows", clip=["1", 1], text=text),
        decoder: node(
            "LongtakeVAEDecode", "VAE Decode (Stream)", rollout=[sampler, 0], vae=["1", 2]
        ),
        frames: node("LongtakeCollect", "Collect (Stream)", stream=[decoder, 0]),
        picture: node("ImageFromBatch", place, image=[frames, 0], batch_index=0, length=1),
        latent: node("LongtakeVAEEncode", "VAE Encode (Stream)", pixels=[picture, 0], vae=["1", 2]),
    }


def _known(title: str, latent: str, *, start: float, **inputs: Any) -> dict[str, Any]:
    """The latent of a node, clean, from second `start` on."""
    return node(
        "LongtakeKnownFrames", title, latent=[latent, 0], start=start, start_unit="seconds",
        spacing=1, level=0.0, ahead=0, **inputs,
    )  # fmt: skip


def _guided(title: str, **inputs: Any) -> dict[str, Any]:
    """A History Guidance, the rest of it as it stands."""
    return node("LongtakeHistoryGuidance", title, **inputs)


def _way(sampler: str, guidance: str) -> Api:
    """The shot under another guidance, and its frames in the node after it."""
    decoder = str(int(sampler) + 1)
    shot = {"prompts": ["2", 0], "guidance": [guidance, 0], "seed": 5, "length": 16.0}
    return {
        sampler: _sampler("The shot under this guidance", **shot, length_unit="seconds"),
        decoder: node(
            "LongtakeVAEDecode", "VAE Decode (Stream)", rollout=[sampler, 0], vae=["1", 2]
        ),
    }


def _clip() -> Api:
    """Nodes 9 to 14: a clip as a video file, and the file as frames and sound."""
    return {
        "9": _sampler("Clip", prompts=["10", 0], seed=12, length=6.0, length_unit="seconds"),
        "10": node("CLIPTextEncode", "What the clip shows", clip=["1", 1], text=RED),
        "11": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["9", 0], vae=["1", 2]),
        "12": node("LongtakeCollect", "Your video here", stream=["11", 0], collect="video"),
        "14": _read("Video to Frames (Stream)", start=0.0),
    }


def _read(title: str, *, start: float) -> dict[str, Any]:
    """The file of node 12 from second `start` on."""
    return node(
        "LongtakeVideoToFrames", title, video=["12", 1], fps=16.0, width=96, height=64,
        start=start, length=0.0,
    )  # fmt: skip


def _sampler(title: str, **inputs: Any) -> dict[str, Any]:
    """A sampler of the demo's size, on the settings of the shot."""
    return node(
        "LongtakeSampler", title, model=["1", 0], schedule=["4", 0], kv_cache=["3", 0],
        width=96, height=64, **inputs,
    )  # fmt: skip


def _outputs(frames: str) -> Api:
    """Nodes 7 and 8: the preview and the file, side by side."""
    return {
        "7": node("LongtakePreview", "Streaming Preview", frames=[frames, 0]),
        "8": node(
            "LongtakeSaveVideo", "Save Video (Stream)", frames=[frames, 0],
            filename_prefix="longtake/clip", format="mp4 (h264)", crf=18, sheet_and_report=True,
        ),
    }  # fmt: skip


def _group(title: str, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """A frame around the node that stands there."""
    return {"title": title, "bounding": [left - 15, top - 85, width + 30, height + 100]}
