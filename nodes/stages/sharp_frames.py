"""The frames that FlashVSR makes of others: one run of it for all readers in step."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...machine.uploads import upload
from ...model.flashvsr.canvas import Canvas
from ...model.flashvsr.color import Correct
from ...model.flashvsr.memory import PassMemory
from ...model.flashvsr.passes import PassRule, PassState, frames_read, passes_for
from ...model.flashvsr.replay import passes_before
from ...model.flashvsr.upscaler import UpscaleSettings
from ...model.vae.latent_format import LATENT_CHANNELS, WAN21, frame_count
from ...samplers.noise import addressed_noise
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.joined import JoinedStream, JoinStart, JoinSteps
from ...stream.video.spec import MAX_SIDE
from .. import host
from ..frames.source import FrameSource
from ..models.flashvsr.objects import FlashVSR
from .sharp_plan import plan_beside
from .sharp_run import SharpRun
from .sharp_states import SharpStates
from .stage_frames import StageFrames

PURPOSE = "super-resolution"  # in the address of the noise
SEED_OF_FILES = 0
"""The seed for frames that have none: a video file, pictures."""


@dataclass(frozen=True, slots=True)
class SuperSettings:
    """What the node was set to.

    Noise is drawn with `seed`; None stands for the seed in force in the shot. Every
    `snapshot_passes` passes a state goes to disk (0: never). Tiles have `tile_side` pixels (0: as
    large as memory allows).
    """

    scale: float
    seed: int | None
    rule: PassRule
    correct: Correct
    node_id: str | None
    snapshot_passes: int = 0
    tile_side: int = 0


class SharpFrames(StageFrames):
    """The frames of `source` after FlashVSR; a chunk is what one pass makes."""

    stage_name = "super-resolution"

    def __init__(self, source: FrameSource, flashvsr: FlashVSR, settings: SuperSettings) -> None:
        total = source.frame_total
        length = None if total is None else passes_for(total)
        super().__init__(source, JoinedStream([source.chunks], self._start, length=length))
        self.flashvsr, self._settings, self._length = flashvsr, settings, length
        self.canvas = _canvas(source, settings.scale)
        self.width, self.height = self.canvas.width, self.canvas.height
        planned = plan_beside(source, flashvsr, self.canvas, settings.tile_side, settings.rule)
        self.stage_plan, self.tiling = planned.stage_plan, planned.tiling
        self.memory: PassMemory = planned.memory
        setup = f"{flashvsr.sizes} {flashvsr.device} {settings.rule} {self.tiling.tiles}"
        self.work_key = f"{self.stage_name} {setup}"
        self._run: weakref.ref[SharpRun] | None = None  # readers own it

    @property
    def chunk_count(self) -> int | None:
        return self._length

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [*self.source.get_models(), *self.flashvsr.models]

    def content_key(self, index: int) -> str | None:
        """The address of all that pass `index` is made of; None where the source has none."""
        if self._length is not None and index >= self._length:
            return None
        end = self._end
        last = frames_read(index + 1) if end is None else min(frames_read(index + 1), end)
        chunk = self.source.chunk_of(last - 1)
        source = None if chunk is None else self.source.content_key(chunk)
        if source is None:
            return None
        address = f"{source} {last} {index} {self._identity}"
        return hashlib.sha256(address.encode()).hexdigest()

    def chunk_of(self, frame: int) -> int:
        """The pass that makes picture number `frame`, which is in the video."""
        return passes_for(frame + 1) - 1

    def hold_edits(self, first_chunk: int) -> None:
        """Let live edits spare the frames that the passes before `first_chunk` have read."""
        read = frames_read(first_chunk)
        total = self.frame_total
        last = self.source.chunk_of(read - 1 if total is None else min(read, total) - 1)
        if first_chunk and last is not None:
            self.source.hold_edits(last + 1)

    @property
    def _end(self) -> int | None:
        """How many frames the source has: what came before a stop, or what is planned."""
        run = self._run() if self._run else None
        return self.frame_total if run is None or run.end is None else run.end

    @cached_property
    def _identity(self) -> str:
        """The networks and the settings, in an address."""
        rule, canvas = self._settings.rule, self.canvas
        return (
            f"{self.flashvsr.identity} {canvas} {self._settings.seed} {rule.density} {rule.reach} "
            f"{self._settings.correct.__name__} {self.tiling.tiles}"
        )

    def _start(self, first: int) -> JoinStart[FrameChunk, FrameChunk]:
        """A reader of the run that nobody has begun yet, or of a new one."""
        if self._length is not None and first >= self._length:
            return JoinStart(_nothing())
        run = self._run() if self._run else None
        if run is None or run.has_begun:
            run = self._new_run()
            self._run = weakref.ref(run)
        chunk = self.source.chunk_of(run.begin(first))
        return JoinStart(run.steps(first), source_chunk=chunk or 0)

    def _new_run(self) -> SharpRun:
        sizes, settings = self.flashvsr.sizes, self._settings
        states = SharpStates(
            self.content_key,
            hashlib.sha256(self._identity.encode()).hexdigest(),
            self.memory.tile_bytes,
            interval=settings.snapshot_passes,
            needed=passes_before(sizes.dit.num_layers, self.flashvsr.decoder_reach),
        )
        upscale = self._upscale_settings()
        run = SharpRun(self.flashvsr, upscale, self.memory, states, self)
        run.length = self._length
        if self.stage_plan.shared_claim is not None:
            run.claim_with(self.stage_plan.shared_claim)
        if settings.node_id is not None:
            run.progress = host.Progress(settings.node_id, self._length or 0)
        return run

    def _upscale_settings(self) -> UpscaleSettings:
        """The engine's settings, with noise by its address."""
        settings, on_card = self._settings, self.flashvsr.device.type != "cpu"
        rests = len(self.tiling.tiles) > 1 and on_card
        return UpscaleSettings(
            self.canvas, self._noise, settings.rule, settings.correct, self.tiling.side,
            _to_main_memory if rests else None,
        )  # fmt: skip

    def _noise(self, latents: range) -> Tensor:
        """Noise (f, c, h, w) by its address: the seed, and the latent frame in the video."""
        factor, canvas = WAN21.spatial_factor, self.canvas
        shape = LATENT_CHANNELS, canvas.full_height // factor, canvas.full_width // factor
        frames = [addressed_noise(self._seed_of(i), i, 0, PURPOSE, shape) for i in latents]
        return upload(torch.stack(frames), self.flashvsr.device)

    def _seed_of(self, latent_frame: int) -> int:
        """The seed of a latent frame: that of its last picture, where the node has none."""
        if self._settings.seed is not None:
            return self._settings.seed
        seed = self.source.seed_of(frame_count(latent_frame + 1) - 1)
        return SEED_OF_FILES if seed is None else seed


def _nothing() -> JoinSteps[FrameChunk, FrameChunk]:
    """The steps of a reader that has all chunks already."""
    yield from ()


def _to_main_memory(state: PassState) -> PassState:
    return state.to(torch.device("cpu"))


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
