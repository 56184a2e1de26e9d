"""The example workflows that show shots side by side, which differ in one setting."""

from __future__ import annotations

from .example_nodes import (
    FEW_STEPS,
    FULL,
    RED,
    group_box,
    guidance_node,
    guided_shot_nodes,
    node,
    output_nodes,
    sampler_node,
    shot_nodes,
    world_nodes,
)
from .example_places import PLACES, Example

STILL = "a golden ball bouncing over icy mountains at midday, cloudless sky, static camera"
MINUTE = 60.0  # seconds
ANY_TIME = "a ball bouncing over green hills, clear sky, the camera pans left"
MINUTE_AND_BACK = """0: a red ball bouncing over green hills by day, clear sky, the camera pans left
30: a red ball bouncing over green hills by day, clear sky, the camera pans right"""
WORN_AFTER = BROKEN_AFTER = 30.0  # seconds


def history_guidance() -> Example:
    """One shot with four guidance settings, side by side."""
    strong = {"preset": "vanilla", "scale": 3.0}
    ways = {
        "9": guidance_node("Strongly away from no history", **strong),
        "12": guidance_node("The same, in early steps only", from_level=0.7, **strong),
        "18": guidance_node("Toward noisy history", preset="fractional", scale=3.0),
    }  # fmt: skip
    shots = {
        **guided_shot_nodes("10", "9", seed=5, length=BROKEN_AFTER),
        **guided_shot_nodes("13", "12", seed=5, length=BROKEN_AFTER),
        **guided_shot_nodes("16", "18", seed=5, length=BROKEN_AFTER),
    }
    compared = node(
        "LongtakeCompareRollouts", "Compare Rollouts", frames_a=["6", 0], frames_b=["11", 0],
        frames_c=["14", 0], frames_d=["17", 0], layout="grid",
        labels="text only\nvanilla 3\nvanilla 3, early\nfractional 3",
    )  # fmt: skip
    api = {**world_nodes(f"0: {RED}", FULL), **shot_nodes(seed=5, length=BROKEN_AFTER),
           **ways, **shots, "19": compared,
           **output_nodes("19")}  # fmt: skip
    api["4"]["inputs"]["steps"] = FEW_STEPS
    places = {
        **PLACES, "9": (0, 1430, 300, 545), "10": (360, 1430, 320, 670), "11": (740, 1430, 260, 80),
        "12": (1060, 1430, 300, 545), "13": (1420, 1430, 320, 670),
        "14": (1800, 1430, 260, 80), "18": (2120, 1430, 300, 545), "16": (2480, 1430, 320, 670),
        "17": (2860, 1430, 260, 80), "19": (1220, 180, 320, 260), "7": (1600, 0, 420, 460),
        "8": (2080, 0, 300, 400),
    }  # fmt: skip
    groups = [group_box("What the others are compared with", *PLACES["5"])]
    return Example(api, places, groups)


def does_not_wear() -> Example:
    """A shot under guidance so strong that it wears out, and the same with half the window a sink.

    Prompt and seed are the third shot of `longtake bench wear`.
    """
    steady = {
        "10": node("LongtakeKVCacheSettings", "Half the window stays", policy="window + sink",
                   sink_frames=10),
        "11": sampler_node(
            "The same shot, rule on", prompts=["2", 0], guidance=["9", 0], seed=2,
            length=WORN_AFTER, length_unit="seconds",
        ),
        "12": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["11", 0], vae=["1", 2]),
    }  # fmt: skip
    steady["11"]["inputs"]["kv_cache"] = ["10", 0]
    api = {
        **world_nodes(f"0: {STILL}", FULL),
        **shot_nodes(seed=2, length=WORN_AFTER),
        "9": guidance_node("Too strong, so that the shot wears", preset="vanilla", scale=2.0,
                           text_scale=2.5),
        **steady,
        "13": node(
            "LongtakeCompareRollouts", "Compare Rollouts", frames_a=["6", 0], frames_b=["12", 0],
            layout="row", labels="rule off\nrule on",
        ),
        **output_nodes("13"),
    }  # fmt: skip
    api["4"]["inputs"]["steps"] = 4
    api["5"]["inputs"]["guidance"] = ["9", 0]
    places = {
        **PLACES, "9": (0, 570, 300, 545), "10": (320, 1490, 300, 300),
        "11": (700, 1490, 320, 670), "12": (1080, 1490, 260, 80), "13": (1220, 180, 320, 220),
        "7": (1600, 0, 420, 360), "8": (2080, 0, 300, 400),
    }  # fmt: skip
    return Example(api, places, [group_box("The rule against wear", *places["10"])])


def come_back() -> Example:
    """A camera that goes away for half a minute and returns, with the model's memory and without.

    A plain window has forgotten the trees; the model's own memory fetches them again.
    """
    forgetful = {
        "9": node("LongtakeKVCacheSettings", "A window that forgets", policy="window + sink"),
        "10": sampler_node(
            "The same shot, forgetful", prompts=["2", 0], seed=10, length=MINUTE,
            length_unit="seconds",
        ),
        "11": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["10", 0], vae=["1", 2]),
    }  # fmt: skip
    forgetful["10"]["inputs"]["kv_cache"] = ["9", 0]
    api = {
        **world_nodes(MINUTE_AND_BACK),
        **shot_nodes(seed=10, length=MINUTE),
        **forgetful,
        "12": node(
            "LongtakeCompareRollouts", "Compare Rollouts", frames_a=["6", 0], frames_b=["11", 0],
            layout="row", labels="remembers\nforgets",
        ),
        **output_nodes("12"),
    }  # fmt: skip
    places = {
        **PLACES, "9": (320, 1490, 300, 300), "10": (700, 1490, 320, 670),
        "11": (1080, 1490, 260, 80), "12": (1220, 180, 320, 220), "7": (1600, 0, 420, 360),
        "8": (2080, 0, 300, 400),
    }  # fmt: skip
    return Example(api, places, [group_box("What differs", *places["9"])])


def negative_prompt() -> Example:
    """A prompt that says no time of day, at cfg 1: alone, and with NAG against the sunset."""
    guided = {
        "9": node("LongtakeNAGGuidance", "NAG Guidance", scale=11.0),
        "10": sampler_node(
            "The same shot, with NAG", prompts=["2", 0], guidance=["9", 0], seed=3, length=5.0,
            length_unit="seconds",
        ),
        "11": node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=["10", 0], vae=["1", 2]),
    }  # fmt: skip
    api = {
        **world_nodes(f"0: {ANY_TIME}"),
        **shot_nodes(seed=3, length=5.0),
        **guided,
        "12": node(
            "LongtakeCompareRollouts", "Compare Rollouts", frames_a=["6", 0], frames_b=["11", 0],
            layout="row", labels="cfg 1\nwith NAG",
        ),
        **output_nodes("12"),
    }  # fmt: skip
    api["2"]["inputs"]["negative"] = "at sunset"
    places = {
        **PLACES, "9": (320, 1490, 300, 185), "10": (700, 1490, 320, 670),
        "11": (1080, 1490, 260, 80), "12": (1220, 180, 320, 220), "7": (1600, 0, 420, 360),
        "8": (2080, 0, 300, 400),
    }  # fmt: skip
    return Example(api, places, [group_box("The negative prompt counts", *places["9"])])
