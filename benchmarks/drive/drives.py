"""What one phase of a drive shows: pictures a second, and key to pixel by two ways of measuring."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...errors import BadInput
from .motion import Floats, Pictures, onset, still_jumps
from .presses import TURNS

LOST_S = 3.0  # counts for a press after which nothing moved: more than any limit
STILL_MS = 1300.0  # without a key before a press
HELD_MS = 250.0  # a latent frame; within a tap the scenery moves less than can be seen
SAME_KEY_MS = 60.0  # from a press in the browser to the player's note of it


@dataclass(frozen=True, slots=True)
class Drive:
    """A phase of a drive; all lists are in order of time.

    `rates` are pictures in each whole second. `pixel_s` has a value for each arrow key that is
    held, from a still camera on, `LOST_S` if nothing moved. `player_s` is what the player
    measured, for presses and releases. `beyond_player_s` is the difference for the same press.
    `still_px` are jumps of the scenery while the camera stands still.
    """

    rates: list[float]
    mean_rate: float
    pixel_s: list[float]
    player_s: list[float]
    beyond_player_s: list[float]
    still_px: list[float]
    reading_share: float
    load: float


def observe(phase: Mapping[str, Any]) -> Drive:
    """Read what tests/browser/steering/live_drive.mjs saw in a phase."""
    draws = np.array(phase["draws"], dtype=np.float64)
    if len(draws) < 2:
        raise BadInput("the page drew nothing while it was driven: the run stood still.")
    pictures = _decode(phase["pixels"], *phase["size"])
    presses = [*_still_presses(phase["keys"])]
    delays = [onset(draws, pictures, at, sign) for at, sign in presses]
    player = [(each["at"], each["ms"]) for each in phase["latencies"]]
    seconds = (draws[-1] - draws[0]) / 1000
    return Drive(
        rates=_rates(draws),
        mean_rate=float((len(draws) - 1) / seconds),
        pixel_s=[LOST_S if delay is None else delay / 1000 for delay in delays],
        player_s=[ms / 1000 for _, ms in player],
        beyond_player_s=[
            (delay - ms) / 1000
            for (at, _), delay in zip(presses, delays, strict=True)
            for noted, ms in player
            if delay is not None and 0 <= noted - at < SAME_KEY_MS
        ],
        still_px=[px for at, _ in presses for px in still_jumps(draws, pictures, at)],
        reading_share=phase["reading_ms"] / (1000 * seconds),
        load=phase["load"],
    )


def _decode(pixels: Iterable[str], width: int, height: int) -> Pictures:
    greys = [np.frombuffer(base64.b64decode(each), np.uint8) for each in pixels]
    return np.stack(greys).reshape(-1, height, width).astype(np.float64)


def _rates(draws: Floats) -> list[float]:
    """Return the pictures in each whole second from the first picture on."""
    seconds = ((draws - draws[0]) // 1000).astype(int)
    return [float(count) for count in np.bincount(seconds)[:-1]]


def _still_presses(keys: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, int]]:
    """Yield time and direction of the arrow keys that are held, from a still camera on.

    A pan to the right moves the scenery to the left.
    """
    before = -np.inf
    for key, release in pairwise(keys):
        at, is_turn = key["at"], key["down"] and key["code"] in TURNS
        if is_turn and at - before >= STILL_MS and release["at"] - at >= HELD_MS:
            yield at, 1 if key["code"] == TURNS[0] else -1
        before = at
