"""FlashVSR over a stream of any chunking: as many frames out as in, 4 behind.

upscaler = Upscaler(networks, settings)
for frames in chunks:
    show(upscaler.feed(frames))  # at first possibly none
show(upscaler.drain())           # the rest
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas
from .color import Correct, match_statistics
from .passes import Networks, Noise, PassRule, PassState, run_pass


@dataclass(frozen=True, slots=True)
class UpscaleSettings:
    """The size of the pictures, the noise, and how a pass works."""

    canvas: Canvas
    noise: Noise
    rule: PassRule = PassRule()
    correct: Correct = match_statistics


class Upscaler:
    """Frames (n, 3, h, w) in [0, 1] to frames (n, 3, H, W) in [0, 1], for one video.

    The result is float32 on the CPU.

    At most 24 frames wait for a pass. `state` is a value, which another upscaler can go on from.
    """

    def __init__(self, networks: Networks, settings: UpscaleSettings) -> None:
        self.networks, self._settings = networks, settings
        self.state = PassState()
        self._waiting: Tensor | None = None
        self._owed = 0  # frames that were fed and not returned

    @torch.no_grad()
    def feed(self, frames: Tensor) -> Tensor:
        """Take the next frames, and return those that are ready."""
        self._owed += len(frames)
        ready = self._pass_all(self._settings.canvas.enter(frames))
        self._owed -= len(ready)
        return ready

    @torch.no_grad()
    def drain(self) -> Tensor:
        """End the video, as if its last frame stayed, and return the frames that are left."""
        ready = [self._nothing()]
        left = self._owed
        while left > sum(map(len, ready)):
            ready.append(self._pass_all(self._last().expand(self._missing, -1, -1, -1)))
        self._owed = 0
        return torch.cat(ready)[:left]

    def _pass_all(self, frames: Tensor) -> Tensor:
        """Run the passes that these frames (n, 3, H, W) in [-1, 1] complete."""
        waiting = frames if self._waiting is None else torch.cat([self._waiting, frames])
        ready = [self._nothing()]
        while len(waiting) >= self.state.frames_needed:
            count = self.state.frames_needed
            ready.append(self._run(waiting[:count]))
            waiting = waiting[count:]
        self._waiting = waiting.clone()
        return torch.cat(ready)

    def _run(self, frames: Tensor) -> Tensor:
        settings, latents = self._settings, self.state.latents
        sharp, guide, self.state = run_pass(
            self.networks, settings.rule, self.state, frames, settings.noise(latents)
        )
        return settings.canvas.leave(settings.correct(sharp.float(), guide.float())).cpu()

    @property
    def _missing(self) -> int:
        waiting = 0 if self._waiting is None else len(self._waiting)
        return self.state.frames_needed - waiting

    def _last(self) -> Tensor:
        """The newest frame (1, 3, H, W) on the canvas."""
        newest = self._waiting if self._waiting is not None and len(self._waiting) else None
        newest = self.state.guide if newest is None else newest
        assert newest is not None  # a frame is owed, so one was fed
        return newest[-1:]

    def _nothing(self) -> Tensor:
        canvas = self._settings.canvas
        return torch.zeros(0, 3, canvas.height, canvas.width)
