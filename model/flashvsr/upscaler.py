"""FlashVSR over a stream of any chunking: as many frames out as in, 4 behind.

upscaler = Upscaler(networks, settings)
for frames in chunks:
    for sharp in upscaler.feed(frames):  # one part for each pass that the frames complete
        show(sharp)
for sharp in upscaler.drain():           # the rest
    show(sharp)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas
from .color import Correct, match_statistics
from .passes import (
    BEHIND,
    PASS_FRAMES,
    Networks,
    Noise,
    PassRule,
    PassState,
    RunPass,
    passes_left,
    run_pass,
)
from .tiles import Tiling


@dataclass(frozen=True, slots=True)
class UpscaleSettings:
    """The size of the pictures and of the tiles, the noise, and how a pass works.

    `put_away` moves the state of a tile to where it waits for its turn; None: it stays.
    """

    canvas: Canvas
    noise: Noise
    rule: PassRule = PassRule()
    correct: Correct = match_statistics
    tile_side: int = 0
    put_away: Callable[[PassState], PassState] | None = None

    @property
    def tiling(self) -> Tiling:
        """The tiles of a picture."""
        return Tiling(self.canvas, self.tile_side)


class Upscaler:
    """Frames (n, 3, h, w) in [0, 1] to frames (n, 3, H, W) in [0, 1], for one video.

    What comes out is float32 on the networks' device. At most 24 frames wait for a pass beside
    those of the last call. `states` are values, one for each tile, which another upscaler can go on
    from: feed it the frames from `replay.next_frame(state)` on.
    `networks` may be replaced between passes, since the host may move them, and may come later.
    """

    def __init__(
        self,
        networks: Networks | None,
        settings: UpscaleSettings,
        states: Sequence[PassState] = (),
        run: RunPass = run_pass,
    ) -> None:
        self.networks, self._settings, self._run_pass = networks, settings, run
        self._tiles = settings.tiling.tiles
        self.states = [*states] or [PassState()] * len(self._tiles)
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
        waiting = self._waiting
        if waiting is not None and len(waiting):
            read, newest = len(waiting), waiting[-1:]
        else:  # every frame was read, so the owed ones are those that are not made yet
            read, newest = 0, self._unmade(None if waiting is None else waiting.device)[-1:]
        missing = self.state.frames_needed + (count - 1) * PASS_FRAMES - read
        self._append(newest.expand(missing, -1, -1, -1))

    @property
    def state(self) -> PassState:
        """The state of the first tile; its number and its frames are those of all."""
        return self.states[0]

    @property
    def bytes(self) -> int:
        """Bytes of the states and of the frames that wait; not of states that rest elsewhere."""
        waiting = 0 if self._waiting is None else self._waiting.nbytes
        return waiting + (self.state_bytes if self._settings.put_away is None else 0)

    @property
    def state_bytes(self) -> int:
        """Bytes of the states of all tiles."""
        return sum(state.bytes for state in self.states)

    def move(self, device: torch.device) -> None:
        """Move the state and the frames that wait, bit for bit."""
        if self._settings.put_away is None:
            self.states = [state.to(device) for state in self.states]
        self._waiting = None if self._waiting is None else self._waiting.to(device)

    @property
    def is_ready(self) -> bool:
        """Whether enough frames wait for a pass."""
        return self._waiting is not None and len(self._waiting) >= self.state.frames_needed

    @torch.no_grad()
    def step(self) -> Tensor:
        """Run one pass over frames that wait."""
        assert self._waiting is not None and self.networks is not None
        settings, count = self._settings, self.state.frames_needed
        frames, self._waiting = self._waiting[:count], self._waiting[count:].clone()
        guide = self._guide(frames)
        noise = settings.noise(self.state.latents)
        if len(self._tiles) == 1:
            sharp, state = self._run_pass(self.networks, settings.rule, self.state, frames, noise)
            self.states = [state]
        else:
            sharp = self._run_tiles(self.networks, frames, noise)
        finished = settings.correct(sharp.float(), guide.float())[: self._owed]
        self._owed -= len(finished)
        return settings.canvas.leave(finished)

    def _run_tiles(self, networks: Networks, frames: Tensor, noise: Tensor) -> Tensor:
        """One pass over each tile, whose frames (n, 3, H, W) are then blended."""
        settings, states = self._settings, list[PassState]()
        weights = settings.tiling.weights(frames.device)
        whole: Tensor | None = None
        for tile, state, weight in zip(self._tiles, self.states, weights, strict=True):
            sharp, after = self._run_pass(
                networks, settings.rule, state.to(frames.device), tile.of(frames),
                tile.of_latents(noise),
            )  # fmt: skip
            states.append(after if settings.put_away is None else settings.put_away(after))
            del after
            if whole is None:
                whole = sharp.new_zeros(*sharp.shape[:2], *frames.shape[2:])
            tile.of(whole).add_(sharp.mul_(weight))
        assert whole is not None
        self.states = states
        return whole

    def _guide(self, frames: Tensor) -> Tensor:
        """The low-quality frames (n, 3, H, W) of the pass that reads `frames`."""
        if self.state.guide is None:
            return frames[:-BEHIND]
        return torch.cat([self._unmade(frames.device), frames])[:-BEHIND]

    def _unmade(self, device: torch.device | None) -> Tensor:
        """The frames (4, 3, H, W) that were read and are not made; None leaves them in place."""
        canvas, guide = self._settings.canvas, self.state.guide
        assert guide is not None
        size = canvas.full_height, canvas.full_width
        unmade = guide.new_empty(BEHIND, guide.shape[1], *size, device=device or guide.device)
        for tile, state in zip(self._tiles, self.states, strict=True):
            assert state.guide is not None
            tile.of(unmade).copy_(state.guide)
        return unmade
