"""The frames that FlashVSR makes of others: one run of it for all readers in step."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ...errors import BadInput
from ...model.dit import TextKV
from ...model.flashvsr.canvas import Canvas
from ...model.flashvsr.color import Correct
from ...model.flashvsr.memory import PassMemory, pass_memory
from ...model.flashvsr.passes import PassRule, passes_for
from ...model.flashvsr.upscaler import Upscaler, UpscaleSettings
from ...model.vae.latent_format import LATENT_CHANNELS, WAN21
from ...samplers.loop import Chunk
from ...samplers.noise import frame_noise
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.joined import JoinedStream, JoinSteps, NextChunk
from ...stream.preview.messages import Plan
from ...stream.video.spec import MAX_SIDE
from ...uploads import upload
from .. import host
from ..models.flashvsr import FlashVSR
from .source import DerivedFrames, FrameSource

PURPOSE = "super-resolution"  # in the address of the noise


@dataclass(frozen=True, slots=True)
class SuperSettings:
    """What the node was set to."""

    scale: float
    seed: int
    rule: PassRule
    correct: Correct
    node_id: str | None


class SharpFrames(DerivedFrames):
    """The frames of `source` after FlashVSR; a chunk is what one pass makes."""

    def __init__(self, source: FrameSource, flashvsr: FlashVSR, settings: SuperSettings) -> None:
        total = source.frame_total
        length = None if total is None else passes_for(total)
        super().__init__(source, JoinedStream([source.chunks], self._join, length=length))
        self.flashvsr, self._settings, self._length = flashvsr, settings, length
        self.canvas = _canvas(source, settings.scale)
        self.width, self.height = self.canvas.width, self.canvas.height
        self.memory: PassMemory = pass_memory(flashvsr.sizes, self.canvas)
        self._run: weakref.ref[_Run] | None = None  # readers own it

    @property
    def chunk_count(self) -> int | None:
        return self._length

    @property
    def plan(self) -> Plan:
        """The plan of the source, and how many passes follow it."""
        return replace(self.source.plan, chunks=self._length)

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [*self.source.get_models(), *self.flashvsr.models]

    def _join(self) -> JoinSteps[FrameChunk, FrameChunk]:
        """The steps of a reader, of the run that nobody has begun yet, or of a new one."""
        run = self._run() if self._run else None
        if run is None or run.has_begun:
            upscaler = _open(self.flashvsr, self.canvas, self._settings)
            run = _Run(self.flashvsr, upscaler, self.memory, self._length, self._settings.node_id)
            self._run = weakref.ref(run)
        return _steps(run)


class _Run:
    """One pass after another over a video; holds what the newest chunk of the source completed.

    Readers in step get the same chunks of the source, so each asks for the newest one only.
    """

    def __init__(  # noqa: PLR0913
        self, flashvsr: FlashVSR, upscaler: Upscaler, memory: PassMemory, length: int | None,
        node_id: str | None,
    ) -> None:  # fmt: skip
        self.has_begun = False
        self._flashvsr, self._upscaler, self._memory = flashvsr, upscaler, memory
        self._progress = None if node_id is None else host.Progress(node_id, length or 0)
        self._length = length
        self._text: TextKV | None = None
        self._sources: deque[tuple[int, Chunk | None]] = deque()  # (end of a chunk, its latents)
        self._read = self._made_frames = self._made_chunks = 0
        self._newest: tuple[FrameChunk | None, list[FrameChunk]] | None = None

    def chunks_of(self, chunk: FrameChunk | None) -> Iterator[FrameChunk]:
        """The chunks that `chunk` of the source completes; None is the end of the source.

        They are made one at a time, as the first reader in step asks for them.
        """
        if self._newest is None or self._newest[0] is not chunk:
            self.has_begun = True
            self._newest = chunk, []
            self._take(chunk)
        own, ready, number = self._newest, self._newest[1], 0
        while number < len(ready) or (own is self._newest and self._upscaler.is_ready):
            if number == len(ready):
                ready.append(self._make())
            yield ready[number]
            number += 1

    def _take(self, chunk: FrameChunk | None) -> None:
        if chunk is None:
            self._upscaler.end()
            return
        self._read += len(chunk.frames)
        self._sources.append((self._read, chunk.latents))
        self._upscaler.put(upload(chunk.frames, self._flashvsr.device))

    def _make(self) -> FrameChunk:
        """The frames of one pass, with the latents that their first one was decoded from."""
        host.check_interrupted()
        missing = max(0, self._memory.state_bytes - self._upscaler.state.bytes)
        networks = self._flashvsr.claim(missing + self._memory.working_bytes, self._text)
        self._text, self._upscaler.networks = networks.text, networks
        frames = self._upscaler.step()
        while len(self._sources) > 1 and self._sources[0][0] <= self._made_frames:
            self._sources.popleft()
        chunk = FrameChunk(
            self._made_chunks, self._made_frames, frames, self._sources[0][1]
        )
        self._made_chunks, self._made_frames = chunk.index + 1, chunk.first_frame + len(frames)
        self._show()
        return chunk

    def _show(self) -> None:
        if self._progress is None:
            return
        self._progress.advance(self._made_chunks)
        if self._made_chunks == self._length:
            self._progress.finish()


def _steps(run: _Run) -> JoinSteps[FrameChunk, FrameChunk]:
    while True:
        chunk = yield NextChunk(0)
        yield from run.chunks_of(chunk)
        if chunk is None:
            return


def _open(flashvsr: FlashVSR, canvas: Canvas, settings: SuperSettings) -> Upscaler:
    """An upscaler at the start of a video, whose networks come with the first claim."""
    factor = WAN21.spatial_factor
    shape = LATENT_CHANNELS, canvas.full_height // factor, canvas.full_width // factor

    def noise(latents: range) -> Tensor:
        return upload(frame_noise(settings.seed, latents, 0, PURPOSE, shape), flashvsr.device)

    return Upscaler(None, UpscaleSettings(canvas, noise, settings.rule, settings.correct))


def _canvas(source: FrameSource, scale: float) -> Canvas:
    """The enlarged size, even for video formats."""
    width, height = (2 * max(1, round(side * scale / 2)) for side in (source.width, source.height))
    canvas = Canvas(width, height)
    if max(canvas.full_width, canvas.full_height) > MAX_SIDE:
        raise BadInput(
            f"{source.width}x{source.height} times {scale:g} is {width}x{height}, more than the "
            f"{MAX_SIDE} pixels a video can have; lower scale."
        )
    return canvas
