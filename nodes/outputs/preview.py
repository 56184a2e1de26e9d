"""Streaming Preview: play the shot in the node while it is made. The player is in web/."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput, LongtakeError
from ...stream.latency import LatencyFigures, in_words
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.preview.messages import Ending, Origin, Shot
from ...stream.preview.takes import Earlier
from ...stream.video.sound.reading import Sound
from ...units import count_of
from .. import categories, host
from ..frames.pictures import all_to_frames, frames_input
from ..frames.source import FrameSource
from ..frames.video_frames import sound_of
from ..runtime.session import session
from ..schema import build

logger = logging.getLogger("longtake")


class StreamingPreview(io.ComfyNode):
    """FRAMES to the player."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakePreview",
            display_name="Streaming Preview",
            category=categories.SAVE,
            description="Plays the shot while it is made. Pause it, change its prompt, fork it or "
            "stop it. After a cancel, Run continues.",
            search_aliases=["preview video", "watch", "live", "player", "cascade"],
            is_output_node=True,
            not_idempotent=True,  # else the core takes one's result for that of another alike
            inputs=[
                frames_input("frames", "From VAE Decode (Stream)."),
                frames_input(
                    "refined",
                    "The same shot made larger or finer, from Super-Resolution (Stream) or "
                    "Upscale (Stream). The player shows `frames` at once, and each of these once "
                    "made.",
                    optional=True,
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Sound for the addresses of Use in OBS, from the shot's start: from "
                    "Video to Frames (Stream), Load Audio or another node. The player is silent.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    async def execute(
        cls,
        frames: Tensor | FrameSource,
        refined: Tensor | FrameSource | None = None,
        audio: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Pass every chunk to the player's store."""
        frames, *finer = all_to_frames([frames] if refined is None else [frames, refined])
        for source in finer:
            _check_same_shot(frames, source)
        origin = host.origin(cls.hidden.unique_id, cls.hidden.extra_pnginfo)
        sound = sound_of(audio)
        with ExitStack() as takes:  # ends those too that a failure or a cancel keeps from reading
            showing = takes.enter_context(_Showing(frames, origin))
            refinements = [takes.enter_context(showing.refine(each)) for each in finer]
            for each in (showing, *refinements):
                each.hear(sound)
            progress = host.Progress(origin.node_id, frames.chunk_count or 0)
            await _all_of([showing.read(progress), *(each.read() for each in refinements)])
        if not frames.plan_only:
            logger.info("%s", _summary(frames))  # the node has the player's status strip
        return io.NodeOutput(ui={"longtake": [{"take": showing.token}]})

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        """A new number once takes became too old, so that the host runs the node again."""
        return session.takes.expirations


def _check_same_shot(frames: FrameSource, refined: FrameSource) -> None:
    """Raise BadInput where a refined frame has no frame of the same time."""
    ours, theirs = ((each.fps, each.frame_total) for each in (frames, refined))
    if ours != theirs:
        raise BadInput(
            f"frames has {_length(*ours)}, but refined has {_length(*theirs)}; connect the same "
            "shot to both, refined after a node that keeps the number of frames."
        )


def _length(fps: float, total: int | None) -> str:
    count = "an open number of frames" if total is None else count_of(total, "frame")
    return f"{count} at {fps:g} per second"


async def _all_of(readers: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Read in tasks of their own, so that they take turns; the first error ends all."""
    tasks = [asyncio.ensure_future(reader) for reader in readers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Showing:
    """A take of a stream. It records how the stream ends and stays watchable."""

    def __init__(self, frames: FrameSource, origin: Origin) -> None:
        shot = Shot(
            frames.fps, frames.width, frames.height, frames.frame_total, frames.plan,
            resume_at_s=frames.resume_at_s,
        )  # fmt: skip
        self._frames = frames
        count = frames.chunk_count
        last = None if count is None else max(0, count - 1)  # the last chunk is always read
        earlier = Earlier(frames.content_key, last)
        self._take = session.takes.create(shot, origin, host.messenger(), frames.controls, earlier)
        first = self._take.first_new  # chunks of a cancelled run are here already
        frames.hold_edits(first)
        frames.album.add_take(self._take)
        self._reader = frames.chunks.subscribe(first)

    @property
    def token(self) -> str:
        """The token by which the page requests the take."""
        return self._take.token

    def refine(self, frames: FrameSource) -> _Showing:
        """Show the same shot refined, in a take that this one names."""
        refinement = _Showing(frames, replace(self._take.origin, refines=self.token))
        self._take.add_refined(refinement.token)
        return refinement

    def hear(self, sound: Sound | None) -> None:
        """Send `sound` with the pictures to the live address."""
        self._take.sound = sound

    async def read(self, progress: host.Progress | None = None) -> None:
        """Show every chunk as it comes."""
        with self, self._reader as reader:
            async for chunk in reader:
                self._add(chunk)
                if progress is not None:
                    progress.advance(chunk.index + 1)

    def _add(self, chunk: FrameChunk) -> None:
        """Show a chunk, unless nobody can ever see it: to encode it slows down the sampling."""
        if not host.can_be_watched():
            return
        stats, key = self._frames.stats(), self._frames.content_key(chunk.index)
        self._take.show(chunk.frames, chunk.first_frame, chunk.prompt, stats, key, chunk.recalled)

    def __enter__(self) -> _Showing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._take.finish(_ending(self._frames, error))


def _ending(frames: FrameSource, error: BaseException | None) -> Ending:
    """Tell how a stream ended: complete, Stop, failure, or Cancel by the host."""
    if error is None:
        return Ending("stopped" if frames.controls.state == "stopped" else "done")
    if not isinstance(error, Exception):  # the interrupt of the host and a cancelled task are not
        return Ending("interrupted", None, frames.resume_at_s)
    known = isinstance(error, LongtakeError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    return Ending("error", reason, frames.resume_at_s)


def _summary(frames: FrameSource) -> str:
    """Write the speed of the run in one line."""
    facts = frames.report([])
    rate = "" if facts.frames_per_s is None else f" at {facts.frames_per_s:.1f} per second"
    figures = LatencyFigures(
        facts.block_latency_s, facts.real_time_factor, facts.continuous_play_rate,
        facts.switch_cost_s,
    )  # fmt: skip
    latency = in_words(facts.first_frame_s, figures)
    return f"{count_of(facts.frames, 'frame')}{rate}{latency and ': '}{latency}."
