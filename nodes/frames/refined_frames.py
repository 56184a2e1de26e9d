"""The frames that the demo's second stage makes of others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ...errors import BadInput
from ...model.fingerprint import fingerprint
from ...model.refiner.frames import NoiseAugmentation, refine, refiner_memory
from ...model.refiner.network import FACTOR, RGB, Refiner
from ...model.vae.tiny import Memory
from ...samplers.noise import addressed_noise
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.joined import JoinedStream, JoinStart, JoinSteps, NextChunk
from ...stream.preview.messages import Plan
from ...stream.video.spec import MAX_SIDE
from ...uploads import upload
from .. import host
from ..planning.estimate import Stage
from .sharp_plan import plan_stage
from .source import DerivedFrames, FrameSource

PURPOSE = "refine"  # in the address of the noise
SEED = 0  # the noise hides errors and makes no detail, so it needs no choice


@dataclass(frozen=True, slots=True)
class _Refined:
    """A chunk of the source, what became of it, and the memory after its last frame."""

    source: FrameChunk
    chunk: FrameChunk
    memory: Memory


class RefinedFrames(DerivedFrames):
    """The frames of `source`, four times as large; made once for all readers in step."""

    def __init__(
        self, source: FrameSource, refiner: Refiner, level: float, node_id: str | None
    ) -> None:
        stream = JoinedStream([source.chunks], self._start, length=source.chunk_count)
        super().__init__(source, stream)
        self.width, self.height = _large_size(source)
        self._refiner, self._level, self._node_id = refiner, level, node_id
        self._patcher = host.manage(refiner)
        device = self._patcher.load_device
        self.memory = refiner_memory(refiner, source.height, source.width, device)
        stage = Stage(
            self.memory.state_bytes, self.memory.working_bytes, host.weights(self._patcher),
            takes_turns=False, remedy="connect smaller frames",
        )  # fmt: skip
        self._plan, _ = plan_stage(source, stage, device)
        self._newest: _Refined | None = None
        self._progress: host.Progress | None = None
        self._noted = 0

    @property
    def plan(self) -> Plan:
        """The plan of the source and of the second stage."""
        return self._plan

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [*self.source.get_models(), self._patcher]

    def content_key(self, index: int) -> str | None:
        source = self.source.content_key(index)
        return None if source is None else f"{source} {self._identity}"

    def chunk_of(self, frame: int) -> int | None:
        return self.source.chunk_of(frame)

    @cached_property
    def _identity(self) -> str:
        """The network and its setting, in an address."""
        return f"{fingerprint(self._refiner.state_dict())} {self._level}"

    def _start(self, first: int) -> JoinStart[FrameChunk, FrameChunk]:
        """Begin so many chunks earlier that the network has seen all that it looks back to."""
        begin = max(0, first - self._refiner.config.blocks)  # a chunk has at least one frame
        return JoinStart(self._steps(begin), unread=first - begin, source_chunk=begin)

    def _steps(self, begin: int) -> JoinSteps[FrameChunk, FrameChunk]:
        """The steps of a reader that begins at chunk `begin` of the source.

        What it makes before it has seen enough is nobody else's.
        """
        memory, missing = self._refiner.start(), self._refiner.config.blocks if begin else 0
        try:
            while (chunk := (yield NextChunk(0))) is not None:
                refined = self._newest
                if refined is None or refined.source is not chunk:
                    self._newest = None  # never hold two chunks
                    refined = self._refine(chunk, memory)
                    self._newest = None if missing > 0 else refined
                memory, missing = refined.memory, missing - len(chunk.frames)
                yield refined.chunk
                self._note(chunk.index + 1)
        finally:
            self._newest = None

    def _refine(self, chunk: FrameChunk, memory: Memory) -> _Refined:
        host.check_interrupted()
        host.claim_whole(self._patcher, self.memory.working_bytes)
        frames = upload(chunk.frames, self._patcher.load_device)
        larger, memory = refine(
            self._refiner, frames, chunk.first_frame, memory, self._augmentation
        )
        return _Refined(chunk, replace(chunk, frames=larger.cpu()), memory)

    @property
    def _augmentation(self) -> NoiseAugmentation | None:
        if not self._level:
            return None
        shape = RGB, self.source.height, self.source.width
        device = self._patcher.load_device

        def noise(frame: int) -> Any:
            return upload(addressed_noise(SEED, frame, 0, PURPOSE, shape), device)

        return NoiseAugmentation(self._level, noise)

    def _note(self, done: int) -> None:
        """Show the progress, once a reader has taken a chunk."""
        if self._node_id is None or done <= self._noted:
            return
        self._noted = done
        total = self.chunk_count
        self._progress = self._progress or host.Progress(self._node_id, total or 0)
        self._progress.advance(done)
        if done == total:
            self._progress.finish()


def _large_size(source: FrameSource) -> tuple[int, int]:
    """The enlarged width and height."""
    width, height = FACTOR * source.width, FACTOR * source.height
    if max(width, height) > MAX_SIDE:
        raise BadInput(
            f"{source.width}x{source.height} times {FACTOR} is {width}x{height}, more than the "
            f"{MAX_SIDE} pixels a video can have; connect smaller frames."
        )
    return width, height
