"""The sound of a growing video: one encoder for the whole track.

Pieces of video are complete files. A sound encoder that restarted with each of them would leave a
gap at every seam. The packets therefore come from here, and a piece only wraps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import OutputContainer

from .reading import LAYOUTS, Sound, SoundReader

if TYPE_CHECKING:
    from av.packet import Packet

    SoundPacket = Packet[AudioStream]

AAC, FLAC, OPUS = "aac", "flac", "libopus"
AAC_BITS_PER_CHANNEL = 96_000  # per second; AAC-LC is transparent to most listeners at this rate
FORMATS = {AAC: "fltp", FLAC: "s32", OPUS: "flt"}
OPUS_RATE = 48000
FLAC_RATE = 655_350  # its highest
MP4_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


class SoundTrack:
    """Encodes `sound` with `codec` for a container."""

    def __init__(self, sound: Sound, codec: str) -> None:
        self.rate = _encoded_rate(sound.rate, codec)
        self.channels, self._codec = sound.channels, codec
        self._reader = SoundReader(sound)
        self._resampler = av.AudioResampler(
            format=FORMATS[codec], layout=LAYOUTS[sound.channels], rate=self.rate
        )
        self._source_rate, self._read = sound.rate, 0
        self._encoder = self._open_encoder()
        self._queue = av.AudioFifo()

    def packets_until(self, time: Fraction) -> list[SoundPacket]:
        """The packets that the sound before second `time` completes, after earlier packets."""
        missing = round(time * self._source_rate) - self._read
        samples = self._reader.read(max(0, missing))
        if samples.shape[1]:
            frame = av.AudioFrame.from_ndarray(samples, "fltp", LAYOUTS[self.channels])
            frame.sample_rate, frame.pts = self._source_rate, self._read
            frame.time_base = Fraction(1, self._source_rate)
            self._read += samples.shape[1]
            self._fill(frame)
        return [*self._encode(whole=False)]

    def drain(self) -> list[SoundPacket]:
        """The last packets, from the samples that did not fill one.

        FLAC adds one without data, from which Matroska makes no cluster.
        """
        self._fill(None)
        packets = [*self._encode(whole=True), *self._encoder.encode(None)]
        return [packet for packet in packets if packet.size]

    def close(self) -> None:
        """Close the source of the sound."""
        self._reader.close()

    def add_to(self, container: OutputContainer) -> AudioStream:
        """Add a stream with the parameters of this encoder to a container."""
        stream = container.add_stream(self._codec, rate=self.rate)
        assert isinstance(stream, AudioStream)
        _describe(stream.codec_context, self._codec, self.rate, self.channels)
        return stream

    def silence(self) -> list[SoundPacket]:
        """The first packets of a silent track, for a header that is written before any sound."""
        encoder = self._open_encoder()
        packets: list[SoundPacket] = []
        while len(packets) < 2:
            packets += encoder.encode(self._silent_frame(len(packets), encoder.frame_size or 1024))
        return packets

    @property
    def delay(self) -> int:
        """Samples that the encoder adds at the beginning (AAC: 1024)."""
        return int(1024 if self._codec == AAC else 0)

    def _fill(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            resampled.pts = None  # counted by the queue
            self._queue.write(resampled)

    def _encode(self, *, whole: bool) -> Iterator[SoundPacket]:
        count = self._encoder.frame_size or 4096
        while self._queue.samples >= count or (whole and self._queue.samples):
            at = self._queue.samples_read
            frame = self._queue.read(count, partial=True)
            assert frame is not None
            frame.pts, frame.time_base = at, Fraction(1, self.rate)
            yield from self._encoder.encode(frame)

    def _silent_frame(self, number: int, count: int) -> av.AudioFrame:
        frame = av.AudioFrame(FORMATS[self._codec], LAYOUTS[self.channels], count)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts = self.rate, number * count
        frame.time_base = Fraction(1, self.rate)
        return frame

    def _open_encoder(self) -> AudioCodecContext:
        encoder = av.CodecContext.create(self._codec, "w")
        assert isinstance(encoder, AudioCodecContext)
        _describe(encoder, self._codec, self.rate, self.channels)
        encoder.time_base = Fraction(1, self.rate)
        encoder.open()
        return encoder


def _describe(codec: AudioCodecContext, name: str, rate: int, channels: int) -> None:
    codec.sample_rate, codec.layout = rate, LAYOUTS[channels]
    codec.format = FORMATS[name]
    if name == AAC:
        codec.bit_rate = AAC_BITS_PER_CHANNEL * channels


def _encoded_rate(rate: int, codec: str) -> int:
    """`rate`, or the next higher one that AAC supports, or a codec's highest; Opus has one rate."""
    if codec == OPUS:
        return OPUS_RATE
    if codec == FLAC:
        return min(rate, FLAC_RATE)
    if rate in MP4_RATES:
        return rate
    return next((known for known in MP4_RATES if known > rate), MP4_RATES[-1])
