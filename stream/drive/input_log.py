"""What a person held since a chunk last looked, and the pushes that this gives to a chunk's frames.

`hold`: the keys that are down as a chunk begins act on all of it; a key that was tapped since the
last chunk acts on as many latent frames as the tap lasted, at least one. Presses after one another
act after one another; what no longer fits in the chunk acts in its last frame. `re-plan`: the same,
and a chunk that nobody has seen reads again. `history`: what was held while the last chunk was made
acts on this one, edge by edge.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from ...samplers.camera.keys import NO_PUSH, NOTHING, KeyState, Push, key_push, look_push

Mode = Literal["hold", "re-plan", "history"]
MODES: tuple[Mode, ...] = ("hold", "re-plan", "history")
MAX_EDGES = 4096  # between two chunks; a long pause drops the oldest

Look = tuple[float, float]


class InputLog:
    """Edges of keys and ways of a mouse since `start`, in seconds of any clock."""

    def __init__(self, start: float) -> None:
        self._start, self._before = start, NOTHING
        self._edges: deque[tuple[float, KeyState]] = deque(maxlen=MAX_EDGES)
        self._looks: deque[tuple[float, Look]] = deque(maxlen=MAX_EDGES)
        self._last_read = (start, NOTHING, [*self._edges], [*self._looks])

    @property
    def current(self) -> KeyState:
        """What is held now."""
        return self._edges[-1][1] if self._edges else self._before

    @property
    def has_news(self) -> bool:
        """Whether anything was noted since the last read."""
        return bool(self._edges or self._looks)

    def add(self, at: float, state: KeyState, look: Look = (0.0, 0.0)) -> None:
        """Note at time `at` what is held, and the mouse's way in pixels (right, down)."""
        if state != self.current:
            self._edges.append((at, state))
        if look != (0.0, 0.0):
            self._looks.append((at, look))

    def read(self, now: float, count: int, frame_s: float, mode: Mode) -> list[Push]:
        """The pushes of `count` latent frames of `frame_s` seconds of video; then begin anew."""
        states = self._replayed(now, count) if mode == "history" else self._held(count, frame_s)
        looks = self._looks_of(now, count, mode)
        pushes = [
            state + look_push(*look, frame_s) for state, look in zip(states, looks, strict=True)
        ]
        self._last_read = (self._start, self._before, [*self._edges], [*self._looks])
        self._before, self._start = self.current, now
        self._edges.clear()
        self._looks.clear()
        return pushes

    def take_back(self) -> None:
        """Undo the last read, so that the next one reads the same and what came since."""
        self._start, self._before, edges, looks = self._last_read
        self._edges = deque([*edges, *self._edges], MAX_EDGES)
        self._looks = deque([*looks, *self._looks], MAX_EDGES)
        self._last_read = (self._start, self._before, [], [])

    def _held(self, count: int, frame_s: float) -> list[Push]:
        frames: list[set[str]] = [set() for _ in range(count)]
        for key, frame, stop in self._presses(count, frame_s):
            for keys in frames[frame:stop]:
                keys.add(key)
        return [key_push(frozenset(keys)) + self.current.sticks for keys in frames]

    def _presses(self, count: int, frame_s: float) -> Iterator[tuple[str, int, int]]:
        """Each key with its first frame and the frame after its last.

        A key acts from the frame after the taps that were over when somebody pressed the key.
        """
        begun = dict.fromkeys(self._before.keys, (-math.inf, 0))
        before, over = self._before.keys, 0
        for at, state in self._edges:
            for key in before - state.keys:
                pressed_s, frame = begun.pop(key)
                if pressed_s >= self._start:  # no chunk has read the press
                    stop = frame + max(1, math.ceil((at - pressed_s) / frame_s))
                    over = max(over, min(stop, count - 1))
                    yield key, frame, stop
            begun |= dict.fromkeys(state.keys - before, (at, over))
            before = state.keys
        for key, (_, frame) in begun.items():
            yield key, frame, count

    def _replayed(self, now: float, count: int) -> list[Push]:
        """The mean push of each of `count` equal parts of the time since the start."""
        times = [self._start, *(at for at, _ in self._edges), max(now, self._start)]
        states = [self._before, *(state for _, state in self._edges)]
        part = (times[-1] - times[0]) / count
        if part <= 0:
            return [self.current.push] * count
        pushes = [NO_PUSH] * count
        for (begin, end), state in zip(pairwise(times), states, strict=True):
            for i in range(count):
                first = times[0] + i * part
                share = (min(end, first + part) - max(begin, first)) / part
                if share > 0:
                    pushes[i] += state.push.scaled(share)
        return pushes

    def _looks_of(self, now: float, count: int, mode: Mode) -> list[Look]:
        """The mouse's way of each latent frame: spread evenly, or where it was made."""
        if mode != "history":
            across, down = (sum(look[i] for _, look in self._looks) / count for i in (0, 1))
            return [(across, down)] * count
        part = max(now - self._start, 1e-9) / count
        ways = [(0.0, 0.0)] * count
        for at, (across, down) in self._looks:
            i = min(count - 1, max(0, int((at - self._start) / part)))
            ways[i] = ways[i][0] + across, ways[i][1] + down
        return ways
