"""The example workflows: API form, and the places of their nodes.

ComfyUI's front end turns these into the files of `example_workflows/`; see
`tests/in_core/server/test_canvas.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from .compared_examples import (
    MINUTE,
    STILL,
    come_back,
    does_not_wear,
    history_guidance,
    negative_prompt,
)
from .example_nodes import (
    FEW_STEPS,
    FULL,
    RED,
    clip_nodes,
    group_box,
    known_frames_node,
    node,
    output_nodes,
    picture_nodes,
    shot_nodes,
    video_frames_node,
    world_nodes,
)
from .example_places import APP, BELOW, FILE, PICTURE, PLACES, Example

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
ANY_VIDEO = "Any Load Video fits here"
REDRAW = 0.7  # a level at which the demo changes all of a clip but its motion
REDRAWN = "0: a blue ball bouncing over snowy mountains at sunset, clear sky, the camera pans left"


def text_to_stream() -> Example:
    """A shot with one change of prompt, watched and saved while it is generated."""
    api = {**world_nodes(TEN_SECONDS), **shot_nodes(seed=12, length=10.0), **output_nodes("6")}
    return Example(api, PLACES, [group_box("What is shown", *PLACES["2"])], APP)


def long_shot() -> Example:
    """Half a minute in constant memory, with a new prompt every few seconds."""
    api = {**world_nodes(HALF_A_MINUTE), **shot_nodes(seed=3, length=30.0), **output_nodes("6")}
    groups = [
        group_box("What is shown, and when", *PLACES["2"]),
        group_box("The model's window", *PLACES["3"]),
    ]
    return Example(api, PLACES, groups, APP)


def image_to_stream() -> Example:
    """A shot that starts from a picture, which the example generates."""
    picture = picture_nodes(9, "Picture", "Your picture here", seed=5, text=YELLOW)
    api = {
        **world_nodes(FROM_A_PICTURE),
        **shot_nodes(seed=4, length=8.0),
        **picture,
        **output_nodes("6"),
    }
    api["5"]["inputs"]["known_frames"] = ["14", 0]
    groups = [group_box("Any Load Image fits here", *PICTURE["13"])]
    return Example(api, {**PLACES, **PICTURE}, groups)


def first_and_last_picture() -> Example:
    """A transition between two pictures, which the example generates."""
    first = picture_nodes(9, "First picture", "First picture here", seed=11)
    last = picture_nodes(15, "Last picture", "Last picture here", seed=21)
    last["20"]["inputs"]["pictures"] = "later keyframes"
    clips = {
        "21": known_frames_node("Begins the shot", "14", start=0.0),
        "22": known_frames_node("Ends the shot", "20", start=2.9, known_frames=["21", 0]),
    }
    api = {**world_nodes(f"0: {RED}", FULL), **shot_nodes(seed=4, length=3.0), **first, **last,
           **clips, **output_nodes("6")}  # fmt: skip
    api["4"]["inputs"] |= {"schedule": "full sequence", "steps": 16}
    api["5"]["inputs"]["known_frames"] = ["22", 0]
    lower = {str(int(key) + 6): (x, y + 720, w, h) for key, (x, y, w, h) in PICTURE.items()}
    known = {"21": (2240, 1430, 300, 230), "22": (2240, 2150, 300, 230)}
    groups = [group_box("Any Load Image fits here", *PICTURE["13"]),
              group_box("And here", *lower["19"])]  # fmt: skip
    return Example(api, {**PLACES, **PICTURE, **lower, **known}, groups)


def video_to_stream() -> Example:
    """A clip, which the example generates, redrawn under another prompt."""
    api = {
        **world_nodes(REDRAWN, FULL),
        **shot_nodes(seed=8, length=8.0),
        **clip_nodes(),
        **output_nodes("6"),
    }
    api["4"]["inputs"]["steps"] = FEW_STEPS
    api["15"] = node(
        "LongtakeKnownVideo", "Known Video (Stream)", frames=["14", 0], vae=["1", 2], start=0.0,
        start_unit="seconds", level=REDRAW,
    )  # fmt: skip
    api["5"]["inputs"]["known_frames"] = ["15", 0]
    api["8"]["inputs"]["audio"] = ["14", 1]
    places = {**PLACES, **BELOW, **FILE, "15": (1980, 1430, 300, 200)}
    groups = [group_box(ANY_VIDEO, *FILE["12"]), group_box("How much is redrawn", *places["15"])]
    return Example(api, places, groups)


def live_camera() -> Example:
    """The browser's camera, redrawn under a prompt while it runs."""
    api = {**world_nodes(REDRAWN, FULL), **shot_nodes(seed=4, length=20.0), **output_nodes("6")}
    api["4"]["inputs"]["steps"] = FEW_STEPS
    api["9"] = node(
        "LongtakeLiveInput", "Live Input (Stream)", source="webcam", url="", vae=["1", 2],
        level=REDRAW, take=1, stall=10.0,
    )  # fmt: skip
    api["5"]["inputs"]["known_frames"] = ["9", 0]
    places = {**PLACES, "9": (0, 570, 300, 260)}
    return Example(api, places, [group_box("What comes in", *places["9"])])


def continue_video() -> Example:
    """A clip, which the example generates, and its continuation from the last two seconds."""
    api = {
        **world_nodes(FROM_A_PICTURE),
        **shot_nodes(seed=4, length=8.0),
        **clip_nodes(),
        **output_nodes("17"),
    }
    api |= {
        "15": video_frames_node("The end of it", start=-2.06),
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
        **PLACES, **BELOW, **FILE, "15": (1600, 1800, 300, 300), "16": (1980, 1800, 260, 80),
        "17": (1220, 180, 300, 180), "7": (1600, 0, 420, 460), "8": (2080, 0, 300, 420),
    }  # fmt: skip
    return Example(api, places, [group_box(ANY_VIDEO, *FILE["12"])])


def fork_after_rewind() -> Example:
    """A shot rewound and forked with another prompt, and both side by side."""
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
    api = {
        **world_nodes(f"0: {RED}"),
        **shot_nodes(seed=5, length=8.0),
        **forked,
        **output_nodes("12"),
    }
    places = {
        **PLACES, "9": (1220, 200, 320, 350), "10": (1220, 630, 320, 315),
        "11": (1600, 440, 260, 80), "12": (1600, 0, 320, 220), "13": (1600, 620, 340, 320),
        "7": (1980, 0, 420, 360), "8": (2460, 0, 300, 400),
    }  # fmt: skip
    return Example(api, places, [group_box("Another way from here on", 1220, 200, 320, 760)])


def long_memory() -> Example:
    """A camera that goes and returns: different keys are kept, and queries read blocks of them.

    Block-sparse attention is used where it was measured to be faster.
    """
    api = {**world_nodes(THERE_AND_BACK), **shot_nodes(seed=5, length=16.0), **output_nodes("6")}
    api["9"] = node(
        "LongtakeSparseAttention", "ANN-Sparse Attention", model=["1", 0], preset="balanced",
        temp_cache=True, self_attention="where faster", prompt_attention="merge padding",
    )  # fmt: skip
    api["5"]["inputs"]["model"] = ["9", 0]
    places = {**PLACES, "9": (0, 570, 300, 500)}
    return Example(api, places, [group_box("What differs stays", *places["9"])])


def drive_live() -> Example:
    """The camera obeys keys while the shot runs, in chunks of one latent frame."""
    api = {**world_nodes(f"0: {STILL}"), **shot_nodes(seed=4, length=MINUTE), **output_nodes("6")}
    api["4"]["inputs"]["chunk_frames"] = 1
    api["9"] = node("LongtakeCameraPath", "Camera Path", moves="0: still")
    api["5"]["inputs"]["camera"] = ["9", 0]
    places = {**PLACES, "9": (0, 570, 300, 200)}
    return Example(api, places, [group_box("Where the camera goes", *places["9"])], APP)


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
    "come_back": come_back,
    "does_not_wear": does_not_wear,
    "drive_live": drive_live,
    "live_camera": live_camera,
    "negative_prompt": negative_prompt,
}
"""By file name, from easy to advanced.

The template browser shows a pack's files in the order of the folder on disk, and in this order if
the user sorts them by name.
"""
LIVE = {"live_camera"}
"""Those that take what comes in while they run, so that no two first runs give the same."""
