"""Video to Frames (Stream): a video file as FRAMES and AUDIO, read as it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ...model.vae.latent_format import WAN21
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.stream import Stream
from ...stream.metrics import Meter, Report
from ...stream.preview.album import Album
from ...stream.preview.messages import Plan, TakeStats
from ...stream.rollout.controls import Controls
from ...stream.video.reader import VideoReader
from ...stream.video.sound import Sound, SoundInMemory, SoundOfFile
from ...stream.video.source import VideoClip, Wanted, nothing_left, size_of
from ...stream.video.spec import MAX_SIDE
from .. import categories, host, sockets
from ..length import MAX_SECONDS
from ..schema import build

PIECE_FRAMES = 16
SIDE_STEP = 2 * WAN21.spatial_factor
LONGEST = float(MAX_SECONDS)


class VideoToFrames(io.ComfyNode):
    """VIDEO to FRAMES and AUDIO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeVideoToFrames",
            display_name="Video to Frames (Stream)",
            category=categories.FRAMES,
            description="Reads a video of any length a piece at a time, with constant memory: its "
            "pictures at the model's rate and size, and its sound. Nothing is read before it is "
            "wanted.",
            search_aliases=["load video", "video to video", "continue video", "v2v", "read file",
                            "extract audio"],
            inputs=_inputs(),
            outputs=[
                sockets.Frames.Output(display_name="frames"),
                io.Audio.Output(display_name="audio"),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(  # noqa: PLR0913
        cls, video: Any, fps: float, width: int, height: int, start: float, length: float
    ) -> io.NodeOutput:
        """Look through the file's times; nothing is decoded yet."""
        source, wanted = _wanted(video, fps, width, height, start, length)
        clip = VideoClip.of(source, wanted)
        frames = VideoFrames(clip)
        sound = SoundOfFile.of(source, float(clip.start_s), clip.frame_total / wanted.fps)
        host.show_status(cls.hidden.unique_id, f"{frames.plan.text}, {_sounds(sound)}.")
        return io.NodeOutput(frames, None if sound is None else StreamedAudio(sound))


class VideoFrames:
    """The pictures of a video file."""

    resume_at_s: float | None = None
    plan_only = False
    meter: Meter | None = None

    def __init__(self, clip: VideoClip) -> None:
        self.clip, self.fps = clip, float(clip.wanted.fps)
        self.width, self.height = clip.width, clip.height
        self.frame_total = clip.frame_total
        self.chunk_count = -(-clip.frame_total // PIECE_FRAMES)
        self.chunks: Stream[FrameChunk] = Stream(self._read, length=self.chunk_count)
        self.controls, self.album = Controls(), Album()

    @property
    def plan(self) -> Plan:
        """The length and size of the video."""
        seconds = self.frame_total / self.fps
        text = (
            f"{self.frame_total} frames of {self.width}x{self.height} ({seconds:.1f} s at "
            f"{self.fps:g} a second)"
        )
        return Plan(self.frame_total, seconds, self.chunk_count, 0, 0, True, text)

    def stats(self) -> TakeStats:
        """How fast it is read."""
        meter = self.meter or Meter()
        return TakeStats(first_frame_s=meter.first_frame_s, frames_per_s=meter.frames_per_s)

    def report(self, output_files: list[str]) -> Report:
        """The facts about the reading so far."""
        known = Report(
            width=self.width, height=self.height, fps_target=self.fps, output_files=output_files
        )
        return (self.meter or Meter()).report(known)

    def get_models(self) -> list[Any]:
        """No model makes them."""
        return []

    def counts(self, written_bytes: Callable[[], int]) -> None:
        """A file has an end, so nothing needs to be counted."""

    def _read(self, first: int) -> Iterator[FrameChunk]:
        self.meter = Meter()
        return _ReadChunks(VideoReader(self.clip, first * PIECE_FRAMES), first, self.meter)


class _ReadChunks(Iterator[FrameChunk]):
    """The chunks of a file from number `index` on; closed, it closes the file."""

    def __init__(self, reader: VideoReader, index: int, meter: Meter) -> None:
        self._reader, self._index, self._meter = reader, index, meter

    def __next__(self) -> FrameChunk:
        host.check_interrupted()
        frames = self._reader.read(PIECE_FRAMES)
        if frames is None:
            raise StopIteration
        self._meter.chunk_done(frames=len(frames), latent_frames=0)
        self._index += 1
        return FrameChunk(self._index - 1, (self._index - 1) * PIECE_FRAMES, frames)

    def close(self) -> None:
        """Close the file; reading is over."""
        self._reader.close()


class StreamedAudio(Mapping[str, Any]):
    """The host's AUDIO, which other nodes find whole when they ask for its waveform."""

    def __init__(self, sound: SoundOfFile) -> None:
        self.sound = sound

    def __getitem__(self, key: str) -> Any:
        if key == "sample_rate":
            return self.sound.rate
        if key == "waveform":
            silence = np.zeros((self.sound.channels, 0), np.float32)
            with closing(self.sound.blocks()) as blocks:
                return torch.from_numpy(np.concatenate([silence, *blocks], 1))[None]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("waveform", "sample_rate"))

    def __len__(self) -> int:
        return 2


def sound_of(audio: Mapping[str, Any] | None) -> Sound | None:
    """What is heard of an AUDIO: from its file where it is one of ours, else from memory."""
    if audio is None or isinstance(audio, StreamedAudio):
        return None if audio is None else audio.sound
    return SoundInMemory(audio["waveform"], int(audio["sample_rate"]))


def _wanted(  # noqa: PLR0913
    video: Any, fps: float, width: int, height: int, start: float, length: float
) -> tuple[Any, Wanted]:
    """The file behind a VIDEO, and as what to read it; what the VIDEO itself leaves out counts."""
    source = video.get_stream_source()
    trimmed = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
    begin, lasts = trimmed
    if begin or lasts:
        if start < 0:
            start = max(0.0, (lasts or video.get_duration()) + start)
        if lasts:
            if start >= lasts:
                raise nothing_left(lasts, start)
            length = min(length or lasts, lasts - start)
        start += begin
    own_fps, own_width, own_height = size_of(source)
    even = {"width": width or own_width, "height": height or own_height}
    sides = {name: max(SIDE_STEP, side - side % SIDE_STEP) for name, side in even.items()}
    rate = Fraction(fps).limit_denominator(1001) if fps else own_fps
    return source, Wanted(rate, **sides, start=start, length=length)


def _sounds(sound: SoundOfFile | None) -> str:
    if sound is None:
        return "without sound"
    return f"with sound ({sound.rate} Hz, {'stereo' if sound.channels > 1 else 'mono'})"


def _inputs() -> list[io.Input]:
    sides = [
        io.Int.Input(
            name,
            default=0,
            min=0,
            max=MAX_SIDE - MAX_SIDE % SIDE_STEP,
            step=SIDE_STEP,
            tooltip=f"Pixels, a multiple of {SIDE_STEP}, 0 to {MAX_SIDE:,}: as the shot's. The "
            "pictures are scaled to cover it, and cut evenly. 0 is the video's own, cut to a "
            "multiple.",
        )
        for name in ("width", "height")
    ]
    return [
        io.Video.Input("video", tooltip="From Load Video, or any other node that gives one."),
        io.Float.Input(
            "fps",
            default=16.0,
            min=0.0,
            max=240.0,
            step=0.01,
            tooltip="Frames a second, 0 to 240: as the model's, 16 for Wan 2.1 and 24 for Wan 2.2 "
            "5B. The video keeps its speed; frames are left out or repeated. 0 is the video's own.",
        ),
        *sides,
        io.Float.Input(
            "start",
            default=0.0,
            min=-LONGEST,
            max=LONGEST,
            step=0.01,
            tooltip="Where to begin, in seconds; below 0 it counts from the end (-2: the last two "
            "seconds). -86,400 to 86,400.",
        ),
        io.Float.Input(
            "length",
            default=0.0,
            min=0.0,
            max=LONGEST,
            step=0.01,
            tooltip="How much to read, in seconds, 0 to 86,400. 0 is all there is.",
        ),
    ]
