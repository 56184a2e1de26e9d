"""One run of FlashVSR over a stream: it hands the same chunks to all readers in step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from itertools import repeat
from typing import Protocol

from ...machine.uploads import upload
from ...model.dit import TextKV
from ...model.flashvsr.memory import PassMemory
from ...model.flashvsr.passes import BEHIND, frames_made
from ...model.flashvsr.replay import next_frame
from ...model.flashvsr.upscaler import Upscaler, UpscaleSettings
from ...samplers.loop import Chunk
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.joined import JoinSteps, NextChunk
from ...stream.rollout.out_of_memory import explain_lack
from .. import host
from ..frames.finite import check_finite
from ..models.flashvsr.objects import FlashVSR
from ..runtime.claim import Claim
from .sharp_memory import Partner, SharpMemory
from .sharp_states import CHUNKS, SharpStates

ADVICE = "set a smaller tile in Super-Resolution (Stream)"


class PassTimer(Protocol):
    """Is told when a pass begins, and how many frames it has made."""

    def begin_work(self) -> None:
        """A pass begins now."""

    def end_work(self, frames: int) -> None:
        """The pass has made so many frames."""


class SharpRun:
    """One pass after another over a video; holds what the newest chunk of the source completed.

    Readers in step get the same chunks of the source, so each asks for the newest one only. `end`
    is the number of frames of the source, once it has ended. `length` counts passes, if known.
    """

    def __init__(
        self,
        flashvsr: FlashVSR,
        settings: UpscaleSettings,
        memory: PassMemory,
        states: SharpStates,
        timer: PassTimer,
    ) -> None:
        self.has_begun = False
        self.end: int | None = None
        self.length: int | None = None
        self.progress: host.Progress | None = None
        self._flashvsr, self._settings, self._planned = flashvsr, settings, memory
        self._states, self._timer = states, timer
        self._text: TextKV | None = None
        self._exact_from: int | None = None  # where it begins
        self._upscaler = Upscaler(None, settings)
        self.memory = SharpMemory(flashvsr.device, lambda: self._upscaler)
        self._partners: list[Partner] = []
        self._sources: deque[tuple[int, Chunk | None]] = deque()  # (end of a chunk, its latents)
        self._newest: tuple[FrameChunk | None, list[FrameChunk]] | None = None
        self._made = deque[FrameChunk](maxlen=CHUNKS)  # the last ones
        self._read = self._thread = self._noted = 0
        self._rested: int | None = None
        self._failure: Exception | None = None

    def begin(self, first: int) -> int:
        """Begin early enough for pass `first`; returns the first frame that readers need."""
        if self._exact_from is None or first < self._exact_from:
            beginning = self._states.find(first, self._flashvsr.device)
            self._exact_from, self._made = beginning.exact_from, deque(beginning.frames, CHUNKS)
            self._upscaler = Upscaler(None, self._settings, beginning.states)
            self._read = next_frame(self._upscaler.state)
        return max(0, self._read - BEHIND)

    def claim_with(self, generator: Claim) -> None:
        """Load the networks and the state in the generator's claims too, where all of it fits.

        Passes of both take turns, so only what a pass here takes more is asked for.
        """

        def beside() -> int:
            more = self._planned.working_bytes - generator.working_bytes()
            return self._missing_bytes + max(0, more)

        patchers = [*self._flashvsr.models, self.memory]
        needs = [beside, *repeat(int, len(patchers) - 1)]
        self._partners = [Partner(*pair) for pair in zip(patchers, needs, strict=True)]
        generator.co_claimed.update(self._partners)

    @property
    def _missing_bytes(self) -> int:
        """What the state will take that is not there yet."""
        return max(0, self._planned.state_bytes - self._upscaler.state_bytes)

    def steps(self, first: int) -> JoinSteps[FrameChunk, FrameChunk]:
        """The steps of a reader of the chunks from `first` on."""
        try:
            while True:
                chunk = yield NextChunk(0)
                for sharp in self._chunks_of(chunk):
                    if sharp.index >= first:
                        yield sharp
                if chunk is None:
                    return
        finally:
            self._rest()

    def _chunks_of(self, chunk: FrameChunk | None) -> Iterator[FrameChunk]:
        """The chunks that `chunk` of the source completes; None is the end of the source.

        They are made one at a time, as the first reader in step asks for them.
        """
        if self._newest is None or self._newest[0] is not chunk:
            self._newest = chunk, [] if self.has_begun else [*self._made]
            self.has_begun, self._thread = True, threading.get_ident()
            self._take(chunk)
        own, ready, number = self._newest, self._newest[1], 0
        while number < len(ready) or (own is self._newest and self._upscaler.is_ready):
            if number == len(ready):
                ready.append(self._make_or_fail())
            yield ready[number]
            self._note(ready[number].index + 1)
            number += 1

    def _take(self, chunk: FrameChunk | None) -> None:
        if chunk is None:
            self.end = self._read
            self._upscaler.end()
            return
        frames = chunk.frames[max(0, self._read - chunk.first_frame) :]
        self._sources.append((chunk.first_frame + len(chunk.frames), chunk.latents))
        self._read += len(frames)
        self._upscaler.put(upload(frames, self._flashvsr.device))

    def _make_or_fail(self) -> FrameChunk:
        """The frames of one pass; after a pass that failed, all readers get its error.

        That pass has taken frames which no other one can make up for.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # each reader clears the frames it lists
        try:
            return self._make()
        except Exception as failure:
            self._failure = failure
            first = frames_made(self._upscaler.state.number)
            node_id = self.progress.node_id if self.progress else None
            host.warn(node_id, f"Enlarging failed at frame {first} ({failure}).")
            raise

    def _make(self) -> FrameChunk:
        """The frames of one pass, with the latents that their first one was decoded from."""
        host.check_interrupted()
        self._timer.begin_work()
        number = self._upscaler.state.number
        first_frame = frames_made(number)
        planned = self._missing_bytes + self._planned.working_bytes
        networks = self._flashvsr.claim(planned, self._text, self.memory)
        self._text, self._upscaler.networks = networks.text, networks
        with explain_lack(f"while frames from {first_frame} on were enlarged", ADVICE):
            frames = self._upscaler.step().cpu()
        check_finite(frames, first_frame, "FlashVSR", "try bfloat16 or float32 weights")
        self._timer.end_work(len(frames))
        while len(self._sources) > 1 and self._sources[0][0] <= first_frame:
            self._sources.popleft()
        self._made.append(FrameChunk(number, first_frame, frames, self._sources[0][1]))
        return self._made[-1]

    def _note(self, done: int) -> None:
        """Tell of `done` passes, once a reader has taken what they made.

        The host may raise its interrupt here. A state that is ahead of all readers would be of no
        use to the next run.
        """
        if done <= self._noted:
            return
        self._noted = done
        if self.end is None and done == self._upscaler.state.number:
            self._states.snapshot(self._upscaler.states)
        elif done == self.length:
            self._states.drop()
        if self.progress is not None:
            self.progress.advance(done)
            if done == self.length:
                self.progress.finish()

    def _rest(self) -> None:
        """Keep the state for the next run, once, unless the video is whole."""
        state = self._upscaler.state
        if self._thread != threading.get_ident() or self.end is not None:
            return  # a garbage collector may close a reader on another thread
        if state.passes and state.number != self._rested:
            self._rested = state.number
            self._states.rest(self._upscaler.states, self._made)
