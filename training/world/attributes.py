"""The attributes of the demo world and the captions that name them.

An attribute takes one of a few values. A caption can ask for a value, and an oracle can read the
value back from pixels. Captions come from templates with varying word order and synonyms. A fixed
hash of the text holds one caption in eight out of training, so "unseen wordings" is exact.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence

from ...model.text import words_of

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "ball": ("red", "blue", "yellow", "white", "purple"),
    "time": ("day", "sunset", "night"),
    "terrain": ("hills", "desert", "snow"),
    "weather": ("clear", "cloudy"),
    "pan": ("left", "right", "still"),
}

SYNONYMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("ball", "red"): ("red", "crimson", "scarlet"),
    ("ball", "blue"): ("blue", "azure", "cobalt"),
    ("ball", "yellow"): ("yellow", "golden", "lemon"),
    ("ball", "white"): ("white", "ivory", "pale"),
    ("ball", "purple"): ("purple", "violet", "magenta"),
    ("time", "day"): ("by day", "at midday", "at noon"),
    ("time", "sunset"): ("at sunset", "at dusk", "in the evening"),
    ("time", "night"): ("at night", "at midnight", "in moonlight"),
    ("terrain", "hills"): ("green hills", "grassy hills", "meadows"),
    ("terrain", "desert"): ("desert dunes", "a desert", "sand dunes"),
    ("terrain", "snow"): ("snowy mountains", "a snowfield", "icy mountains"),
    ("weather", "clear"): ("clear sky", "cloudless sky", "fair weather"),
    ("weather", "cloudy"): ("cloudy sky", "overcast sky", "cloudy weather"),
    ("pan", "left"): ("the camera pans left", "panning left", "moving left"),
    ("pan", "right"): ("the camera pans right", "panning right", "moving right"),
    ("pan", "still"): ("the camera stays still", "static camera", "fixed view"),
}

TEMPLATES: tuple[str, ...] = (
    "a {ball} ball bouncing over {terrain} {time}, {weather}, {pan}",
    "{time} a {ball} ball bounces across {terrain}, {weather}, {pan}",
    "{pan}: {terrain} {time} under a {weather} with a {ball} ball",
    "{terrain}, {weather}, {time}, a bouncing {ball} ball, {pan}",
    "{weather} over {terrain} {time}; {pan}; the ball is {ball}",
    "a {ball} ball, {pan}, {terrain}, {weather}, {time}",
)

HELD_OUT_ONE_IN = 8


def vocabulary() -> list[str]:
    """Return all words of all captions, sorted. A word's id is its index plus one."""
    texts = [*TEMPLATES, *(phrase for phrases in SYNONYMS.values() for phrase in phrases)]
    names = set(ATTRIBUTES)
    return sorted({word for text in texts for word in words_of(text)} - names | {"ball", "weather"})


def is_held_out(caption: str) -> bool:
    """Return True for captions that training never shows."""
    return zlib.crc32(caption.encode()) % HELD_OUT_ONE_IN == 0


def caption(values: Mapping[str, str], rng: random.Random, *, held_out: bool | None = False) -> str:
    """Return a caption for attribute `values`, in a held-out wording or in one used for training.

    With `held_out` None the wording may be either.
    """
    while True:
        phrases = {name: rng.choice(SYNONYMS[name, value]) for name, value in values.items()}
        text = rng.choice(TEMPLATES).format(**phrases)
        if held_out is None or is_held_out(text) == held_out:
            return text


def random_values(rng: random.Random) -> dict[str, str]:
    """Draw attribute values uniformly and independently."""
    return {name: rng.choice(values) for name, values in ATTRIBUTES.items()}


def changed_values(
    values: Mapping[str, str], rng: random.Random, names: Sequence[str]
) -> dict[str, str]:
    """Return `values` with each attribute in `names` set to a different value."""
    return {
        name: rng.choice([v for v in ATTRIBUTES[name] if v != value]) if name in names else value
        for name, value in values.items()
    }
