"""The blueprints: a part of an example as one node, for ComfyUI's node search and library.

The search compares what a user types with names only, and takes the shortest name that begins so.
ComfyUI's front end turns these into the files of `subgraphs/`; see
`tests/in_core/server/test_canvas.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .enlarging_examples import cascade
from .example_places import Example
from .examples import continue_video, image_to_stream, text_to_stream

SAMPLER = "5"
PREVIEW = "7"
OUTPUTS = ("frames", "audio", "refined")
SHOT = ("2", "4", SAMPLER, "6")  # timeline, schedule, sampler, decoder

Promotion = tuple[str, tuple[str, ...]]
"""An input of the blueprint, and the inner nodes that take it under the same name."""

PROMPT: Promotion = ("text", ("2",))
LENGTH: tuple[Promotion, ...] = (("length", (SAMPLER,)), ("length_unit", (SAMPLER,)))
CONTROLS: tuple[Promotion, ...] = (("cfg", (SAMPLER,)), ("steps", ("4",)))


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The nodes `inside` of an example, the widgets on the blueprint's node and its description.

    `names` are those of the outputs that come from these nodes, where a name is taken.
    """

    example: Callable[[], Example]
    inside: tuple[str, ...]
    promoted: tuple[Promotion, ...]
    description: str
    names: tuple[tuple[str, str], ...] = ()


SIZE = "Width and height are the demo's: set those of your model, such as 832x480."


def _size(*others: str) -> tuple[Promotion, ...]:
    takers = (SAMPLER, *others)
    return ("width", takers), ("height", takers)


BLUEPRINTS: dict[str, Blueprint] = {
    "Text to Video, endless": Blueprint(
        text_to_stream, SHOT, (PROMPT, *LENGTH, *_size(), *CONTROLS),
        "Prompts at times become a stream of frames of any length. With a length of 0 the shot "
        f"goes on until you stop it. {SIZE}",
    ),
    "Image to Video, endless": Blueprint(
        image_to_stream, (*SHOT, "14"), (PROMPT, *LENGTH, *_size(), *CONTROLS),
        "A picture begins a stream of frames of any length. With a length of 0 the shot goes on "
        f"until you stop it. {SIZE}",
    ),
    "Video Extend": Blueprint(
        continue_video, (*SHOT, "14", "15", "16", "17"),
        (PROMPT, *LENGTH, *_size("14", "15"), *CONTROLS),
        "A video and its continuation as one stream of frames. The length includes the last two "
        f"seconds of the video. {SIZE}",
    ),
    "Cascade": Blueprint(
        cascade, (*SHOT, "10"),
        (PROMPT, *LENGTH, *_size(), *CONTROLS, ("scale", ("10",))),
        "A stream of frames and the same frames enlarged, as one shot: connect both to Streaming "
        f"Preview. With a length of 0 the shot goes on until you stop it. {SIZE}",
        names=(("10", "refined"),),
    ),
}  # fmt: skip
"""By name, which is also the name of the file."""
