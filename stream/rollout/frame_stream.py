"""FRAMES: the value on the decoder's socket, a rollout's chunks as pictures.

A reader that starts in the middle first decodes a short overlap, which tests prove to suffice. The
run hands out all earlier chunks too, since it measures and counts them, but they are not decoded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field

from ...model.vae.latent_format import FORMATS, frame_count
from ...model.vae.protocol import OpenCoder, StreamingCoder
from ...samplers.loop import Chunk
from ..lazy.ahead import convert_ahead
from ..lazy.frame_chunk import FrameChunk
from ..lazy.side_thread import SideThread
from ..lazy.stream import Stream
from .live.controls import Controls
from .out_of_memory import explain_lack
from .rollout import Rollout

DECODING_ADVICE = "decode in tiles or generate smaller frames"


@dataclass(slots=True)
class FrameStream:
    """The decoded pictures of a rollout.

    `open_decoder` creates a decoder; it is called when a reader takes its first chunk.
    """

    rollout: Rollout
    open_decoder: OpenCoder
    fps: float
    chunks: Stream[FrameChunk] = field(init=False)

    def __post_init__(self) -> None:
        self.chunks = Stream(self._decode, length=self.rollout.chunk_count)

    @property
    def controls(self) -> Controls:
        """The live controls of the run in progress."""
        return self.rollout.controls

    @property
    def chunk_count(self) -> int | None:
        """The number of chunks; None if the rollout runs until stopped."""
        return self.rollout.chunk_count

    @property
    def frame_total(self) -> int | None:
        """The number of pictures; None if the rollout runs until stopped."""
        return self.rollout.frames

    @property
    def plan_only(self) -> bool:
        """Whether no chunks are made."""
        return self.rollout.plan_only

    @property
    def width(self) -> int:
        """Picture width in pixels."""
        return self.rollout.settings.columns * self._spatial_factor

    @property
    def height(self) -> int:
        """Picture height in pixels."""
        return self.rollout.settings.rows * self._spatial_factor

    @property
    def _spatial_factor(self) -> int:
        return FORMATS[self.rollout.model.config.out_channels].spatial_factor

    def _decode(self, first: int) -> Iterator[FrameChunk]:
        decoder = self.open_decoder()
        start = self._overlap_start(first, decoder.overlap_frames)
        side = self._open_side(decoder)
        with closing(self._chunks_from(start, side)) as chunks:  # a failure frees the run at once
            decoded = (
                self._decode_in_turn(chunks, decoder)
                if side is None
                else convert_ahead(chunks, _Decoding(self, decoder, first), side)
            )
            for frames in decoded:
                if frames.index >= first:
                    yield frames

    def _chunks_from(self, start: int, side: SideThread | None) -> Generator[Chunk, None, None]:
        """Chunks from `start` on; nothing is decoded before the shot's first one is made."""
        run = self.rollout.run
        chunks = run.chunks.read_from(min(start, run.delivered))
        while True:
            with side.share_threads() if side and run.delivered else nullcontext():
                chunk = next(chunks, None)
            if chunk is None:
                return
            if chunk.index >= start:
                yield chunk

    def _open_side(self, decoder: StreamingCoder) -> SideThread | None:
        """Open the thread that decodes while the next chunk is made; None to decode in turn."""
        return None

    def prepare(self, decoder: StreamingCoder) -> None:
        """Called on the reader's thread before each chunk is decoded."""

    def _decode_in_turn(
        self, chunks: Iterator[Chunk], decoder: StreamingCoder
    ) -> Iterator[FrameChunk]:
        for chunk in chunks:
            self.prepare(decoder)
            yield _to_frames(decoder, chunk)

    def _overlap_start(self, first: int, overlap: int) -> int:
        """The chunk at which decoding must start so that chunk `first` is exact."""
        start = first
        while (
            start > 0 and self.rollout.span(first).first - self.rollout.span(start).first < overlap
        ):
            start -= 1
        return start


@dataclass(frozen=True, slots=True)
class _Decoding:
    """The decoding of a stream for a reader that starts at chunk `first`."""

    stream: FrameStream
    decoder: StreamingCoder
    first: int

    def is_alone(self, chunk: Chunk) -> bool:
        return chunk.index == 0 or chunk.index + 1 == self.stream.chunk_count

    def prepare(self) -> None:
        self.stream.prepare(self.decoder)

    def convert(self, chunk: Chunk) -> FrameChunk:
        return _to_frames(self.decoder, chunk)

    def is_urgent(self, last: Chunk | None) -> bool:
        controls = self.stream.controls
        awaited = controls.has_requests or controls.drive.is_live
        return last is None or last.index < self.first or awaited

    def note_held(self, is_held: bool) -> None:
        self.stream.controls.drive.can_wait = not is_held


def _to_frames(decoder: StreamingCoder, chunk: Chunk) -> FrameChunk:
    with explain_lack(f"while chunk {chunk.index} was decoded", DECODING_ADVICE):
        frames = decoder.feed(chunk.latents).float().cpu()
    return FrameChunk(chunk.index, frame_count(chunk.first_frame), frames, chunk)
