"""Streaming Preview: play the shot in the node while it is made. The player is in web/."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import LongtakeError
from ...stream.latency import LatencyFigures, in_words
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.preview.messages import Ending, Shot
from ...stream.preview.takes import Earlier
from ...stream.video.sound import Sound
from .. import categories, host
from ..frames.pictures import frames_input, to_frames
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
            search_aliases=["preview video", "watch", "live", "player"],
            is_output_node=True,
            inputs=[
                frames_input("frames", "From VAE Decode (Stream)."),
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
        cls, frames: Tensor | FrameSource, audio: Mapping[str, Any] | None = None
    ) -> io.NodeOutput:
        """Pass every chunk to the player's store."""
        frames = to_frames(frames)
        node_id = cls.hidden.unique_id
        progress = host.Progress(node_id, frames.chunk_count or 0)
        canvas = cls.hidden.extra_pnginfo
        with (
            _Showing(frames, node_id, canvas, sound_of(audio)) as showing,
            frames.chunks.subscribe(showing.first) as reader,
        ):
            async for chunk in reader:
                showing.add(chunk)
                progress.advance(chunk.index + 1)
        logger.info("%s", _summary(frames))  # the node has the player's status strip
        return io.NodeOutput(ui={"longtake": [{"take": showing.token}]})


class _Showing:
    """A take of a stream. It records how the stream ends and stays watchable."""

    def __init__(
        self,
        frames: FrameSource,
        node_id: str | None,
        canvas: dict[str, Any] | None,
        sound: Sound | None,
    ) -> None:
        shot = Shot(
            frames.fps, frames.width, frames.height, frames.frame_total, frames.plan,
            resume_at_s=frames.resume_at_s,
        )  # fmt: skip
        self._frames = frames
        count = frames.chunk_count
        last = None if count is None else max(0, count - 1)  # the last chunk is always read
        origin = host.origin(node_id, canvas)
        self._take = session.takes.create(
            shot, origin, host.messenger(), frames.controls, Earlier(frames.content_key, last)
        )
        self._take.sound = sound
        self.first = self._take.first_new  # chunks of a cancelled run are here already
        frames.hold_edits(self.first)
        frames.album.add_take(self._take)

    @property
    def token(self) -> str:
        """The token by which the page requests the take."""
        return self._take.token

    def add(self, chunk: FrameChunk) -> None:
        """Show the next chunk."""
        stats, key = self._frames.stats(), self._frames.content_key(chunk.index)
        self._take.show(
            chunk.frames, chunk.first_frame, chunk.prompt, stats, key, chunk.recalled
        )

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
    return f"{facts.frames} frames{rate}{latency and ': '}{latency}."
