"""FlashVSR over a stream of any chunking: as many frames out as in, 4 behind.

upscaler = Upscaler(networks, settings)
for frames in chunks:
    for sharp in upscaler.feed(frames):  # one part for each pass that the frames complete
        show(sharp)
for sharp in upscaler.drain():           # the rest
    show(sharp)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas
from .color import Correct, match_statistics
from .passes import PASS_FRAMES, Networks, Noise, PassRule, PassState, passes_left, run_pass


@dataclass(frozen=True, slots=True)
class UpscaleSettings:
    """The size of the pictures, the noise, and how a pass works."""

    canvas: Canvas
    noise: Noise
    rule: PassRule = PassRule()
    correct: Correct = match_statistics


class Upscaler:
    """Frames (n, 3, h, w) in [0, 1] to frames (n, 3, H, W) in [0, 1], for one video.

    What comes out is float32 on the CPU. At most 24 frames wait for a pass beside those of the last
    call. `state` is a value, which another upscaler can go on from: feed it the frames from
    `replay.next_frame(state)` on.
    `networks` may be replaced between passes, since the host may move them, and may come later.
    """

    def __init__(
        self, networks: Networks | None, settings: UpscaleSettings, state: PassState | None = None
    ) -> None:
        self.networks, self._settings = networks, settings
        self.state = state or PassState()
        self._waiting: Tensor | None = None
        guide = self.state.guide
        self._owed = 0 if guide is None else len(guide)  # frames that were put in and not made

    def feed(self, frames: Tensor) -> Iterator[Tensor]:
        """Take the next frames, and make those that are ready, a pass at a time."""
        self.put(frames)
        while self.is_ready:
            yield self.step()

    def drain(self) -> Iterator[Tensor]:
        """End the video, as if its last frame stayed, and make the frames that are left."""
        self.end()
        while self.is_ready:
            yield self.step()

    @torch.no_grad()
    def put(self, frames: Tensor) -> None:
        """Take the next frames, which lie on the networks' device."""
        self._owed += len(frames)
        self._append(self._settings.canvas.enter(frames))

    def _append(self, entered: Tensor) -> None:
        self._waiting = entered if self._waiting is None else torch.cat([self._waiting, entered])

    def end(self) -> None:
        """Repeat the last frame until the passes that are left can run."""
        count = passes_left(self.state, self._owed)
        if not count:
            return
        read = 0 if self._waiting is None else len(self._waiting)
        newest = self._waiting[-1:] if read and self._waiting is not None else self.state.guide
        assert newest is not None  # a frame is owed, so there is one
        missing = self.state.frames_needed + (count - 1) * PASS_FRAMES - read
        self._append(newest[-1:].expand(missing, -1, -1, -1))

    @property
    def is_ready(self) -> bool:
        """Whether enough frames wait for a pass."""
        return self._waiting is not None and len(self._waiting) >= self.state.frames_needed

    @torch.no_grad()
    def step(self) -> Tensor:
        """Run one pass over frames that wait."""
        assert self._waiting is not None and self.networks is not None
        settings, latents, count = self._settings, self.state.latents, self.state.frames_needed
        frames, self._waiting = self._waiting[:count], self._waiting[count:].clone()
        sharp, guide, self.state = run_pass(
            self.networks, settings.rule, self.state, frames, settings.noise(latents)
        )
        finished = settings.correct(sharp.float(), guide.float())[: self._owed]
        self._owed -= len(finished)
        return settings.canvas.leave(finished).cpu()
