"""An example workflow, and where its nodes stand on the canvas, by their numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .example_nodes import Api, Place

PLACES: dict[str, Place] = {
    "1": (0, 0, 260, 100),
    "2": (320, 0, 460, 245),
    "3": (320, 350, 300, 300),
    "4": (320, 710, 300, 670),  # with its text and its picture, which appear at the first run
    "5": (840, 0, 320, 670),  # with its text of the first run
    "6": (1220, 0, 260, 80),
    "7": (1220, 160, 420, 460),
    "8": (1700, 0, 300, 400),
}

BELOW: dict[str, Place] = {
    "9": (480, 1430, 320, 625),
    "10": (0, 1430, 420, 180),
    "11": (880, 1430, 260, 80),
}
PICTURE: dict[str, Place] = {
    **BELOW,
    "12": (1220, 1430, 260, 175),
    "13": (1540, 1430, 280, 110),
    "14": (1880, 1430, 300, 130),
}
FILE: dict[str, Place] = {"12": (1220, 1430, 280, 150), "14": (1600, 1430, 300, 300)}


@dataclass(frozen=True, slots=True)
class Example:
    """A workflow in API form, and the place of each node."""

    api: Api
    places: dict[str, Place]
    groups: list[dict[str, Any]] = field(default_factory=list)
    app: dict[str, Any] | None = None
    """What ComfyUI's app mode shows of the workflow; None leaves the choice to the user."""


def app_of_shot(prompts: int, sampler: int, preview: int, save: int) -> dict[str, Any]:
    """Return what app mode shows of one shot, by the numbers of its nodes.

    Widgets stand by number and name, as the first app mode wrote them; newer ones read that too.
    """
    inputs = [[prompts, "text"], [sampler, "length"], [sampler, "seed"], [preview, "player"]]
    return {"inputs": inputs, "outputs": [save]}


APP = app_of_shot(2, 5, 7, 8)
