"""The example workflows and the blueprint, in API form with where their nodes stand.

ComfyUI's front end makes the files of `example_workflows/` and `subgraphs/` out of these, see
`tests/in_core/test_core_canvas.py`.
"""

from __future__ import annotations

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
    api = {**_world(TEN_SECONDS), **_shot(seed=5, length=10.0), **_outputs("6")}
    return Example(api, PLACES, [_group("What is shown", 320, 0, 460, 220)])


def long_shot() -> Example:
    """Half a minute on constant memory, with a prompt every few seconds."""
    api = {**_world(HALF_A_MINUTE), **_shot(seed=3, length=30.0), **_outputs("6")}
    groups = [
        _group("What is shown, and when", 320, 0, 460, 220),
        _group("Constant memory: a window", 320, 300, 300, 130),
    ]
    return Example(api, {**PLACES, "3": (320, 300, 300, 130), "4": (320, 520, 300, 180)}, groups)


EXAMPLES = {"text_to_stream": text_to_stream, "long_shot": long_shot}
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
    "3": (320, 300, 300, 130),
    "4": (320, 500, 300, 180),
    "5": (840, 0, 320, 320),
    "6": (1220, 0, 260, 80),
    "7": (1220, 160, 300, 300),
    "8": (1560, 0, 300, 200),
}


def _world(text: str) -> Api:
    """Nodes 1 and 2: the demo model and the prompts."""
    return {
        "1": node("LongtakeLoadDemoModel", "Load Demo Model"),
        "2": node(
            "LongtakePromptTimeline", "Prompt Timeline", clip=["1", 1], text=text, negative=""
        ),
    }


def _shot(*, seed: int, length: float) -> Api:
    """Nodes 3 to 6: settings, sampler and decoder."""
    return {
        "3": node(
            "LongtakeKVCacheSettings", "KV Cache Settings",
            policy="window + sink", window_frames=21, sink_frames=0,
        ),
        "4": node(
            "LongtakeSchedule", "Diffusion-Forcing Schedule",
            chunk_frames=3, steps=4, shift=2.0, solver="euler", context_noise=0.0,
        ),
        "5": node(
            "LongtakeSampler", "Diffusion-Forcing Sampler",
            model=["1", 0], prompts=["2", 0], schedule=["4", 0], kv_cache=["3", 0],
            seed=seed, width=96, height=64, length=length, length_unit="seconds", cfg=2.5,
        ),
        "6": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["5", 0], vae=["1", 2]),
    }  # fmt: skip


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
