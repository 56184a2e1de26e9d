"""Video to Frames (Stream): a video file as FRAMES and AUDIO, read on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from comfy_api.latest import io

from ...model.vae.latent_format import WAN21
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.metrics import Meter
from ...stream.video.frame_rate import exact_rate
from ...stream.video.reading.reader import VideoReader
from ...stream.video.reading.source import FrameRequest, VideoClip, no_frames_left, probe_size
from ...stream.video.sound.in_file import FileSound
from ...stream.video.sound.in_memory import SoundInMemory
from ...stream.video.sound.reading import Sound, waveform
from ...stream.video.spec import MAX_SIDE
from .. import categories, host, sockets
from ..length import MAX_SECONDS, check_sides
from ..schema import build
from .stored import PIECE_FRAMES, StoredFrames
from .video_source import locate

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
            description="Reads a video of any length piece by piece, with constant memory: its "
            "pictures at the model's rate and size, and its sound.",
            search_aliases=["load video", "read file", "extract audio", "video to images"],
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
        """Read the times of the file; pictures are decoded on demand."""
        source, request = _request(video, fps, width, height, start, length)
        clip = VideoClip.probe(source, request)
        frames = VideoFrames(clip)
        sound = FileSound.probe(source, float(clip.start_s), clip.frame_total / request.fps)
        host.show_status(cls.hidden.unique_id, f"{frames.plan.text}, {_sounds(sound)}.")
        return io.NodeOutput(frames, None if sound is None else StreamedAudio(sound))


class VideoFrames(StoredFrames):
    """The pictures of a video file."""

    def __init__(self, clip: VideoClip) -> None:
        self.clip, count = clip, -(-clip.frame_total // PIECE_FRAMES)
        super().__init__(
            (clip.width, clip.height), float(clip.request.fps), clip.frame_total, count
        )

    @property
    def digest(self) -> str:
        """A hash of the file, its range, size and rate."""
        return self.clip.digest

    def _address(self, index: int) -> str:
        return f"{self.digest} {index}"

    def open_reader(self, first: int) -> VideoReader:
        """Open the file at picture number `first`."""
        return VideoReader(self.clip, first)

    def _read(self, first: int) -> Iterator[FrameChunk]:
        self.meter = Meter()
        return _ReadChunks(self.open_reader(first * PIECE_FRAMES), first, self.meter)


class _ReadChunks(Iterator[FrameChunk]):
    """The chunks of a file from number `index` on; `close` closes the file."""

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
    """The host's AUDIO; its waveform is decoded when another node asks for it."""

    def __init__(self, sound: FileSound) -> None:
        self.sound = sound

    def __getitem__(self, key: str) -> Any:
        if key == "sample_rate":
            return self.sound.rate
        if key == "waveform":
            return waveform(self.sound)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("waveform", "sample_rate"))

    def __len__(self) -> int:
        return 2


def sound_of(audio: Mapping[str, Any] | None) -> Sound | None:
    """Return the sound of an AUDIO: from the file for a `StreamedAudio`, else from memory."""
    if audio is None or isinstance(audio, StreamedAudio):
        return None if audio is None else audio.sound
    return SoundInMemory.of(audio["waveform"], audio["sample_rate"])


def _request(  # noqa: PLR0913
    video: Any, fps: float, width: int, height: int, start: float, length: float
) -> tuple[Any, FrameRequest]:
    """Return what to read of a VIDEO and how, within the VIDEO's own trim."""
    source, (begin, lasts) = locate(video)
    if begin or lasts:
        if start < 0:
            start = max(0.0, (lasts or video.get_duration()) + start)
        if lasts:
            if start >= lasts:
                raise no_frames_left(lasts, start)
            length = min(length or lasts, lasts - start)
        start += begin
    own_fps, own_width, own_height = probe_size(source)
    own = [max(SIDE_STEP, side - side % SIDE_STEP) for side in (own_width, own_height)]
    sides = {"width": width or own[0], "height": height or own[1]}
    check_sides(**sides, step=SIDE_STEP)
    rate = exact_rate(fps) if fps else own_fps
    return source, FrameRequest(rate, **sides, start=start, length=length)


def _sounds(sound: FileSound | None) -> str:
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
            tooltip=f"Pixels, a multiple of {SIDE_STEP}, 0 to {MAX_SIDE:,}; use the shot's size. "
            "Pictures are scaled to cover it and cropped at the centre. 0: the video's own size, "
            "cropped to a multiple.",
        )
        for name in ("width", "height")
    ]
    return [
        io.Video.Input("video", tooltip="From Load Video or any other node with a VIDEO."),
        io.Float.Input(
            "fps",
            default=16.0,
            min=0.0,
            max=240.0,
            step=0.01,
            tooltip="Frames per second, 0 to 240. Use the model's: 16 for Wan 2.1, 24 for Wan 2.2 "
            "5B. The speed stays; frames are dropped or repeated. 0: the video's own rate.",
        ),
        *sides,
        io.Float.Input(
            "start",
            default=0.0,
            min=-LONGEST,
            max=LONGEST,
            step=0.01,
            tooltip="Start time in seconds, -86,400 to 86,400. Negative counts from the end: -2 is "
            "the last two seconds.",
        ),
        io.Float.Input(
            "length",
            default=0.0,
            min=0.0,
            max=LONGEST,
            step=0.01,
            tooltip="How much to read, in seconds, 0 to 86,400. 0: to the end.",
        ),
    ]
