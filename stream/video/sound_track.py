"""The sound of a growing video: one encoder for the whole track, asked for what follows a time.

Pieces of video are files of their own; a sound encoder that began anew with each would leave a gap
at every seam. So the packets come from here, and a piece only wraps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import OutputContainer

from .sound import LAYOUTS, Sound, SoundReader

if TYPE_CHECKING:
    from av.packet import Packet

    SoundPacket = Packet[AudioStream]

AAC, FLAC = "aac", "flac"
AAC_BITS_PER_CHANNEL = 96_000  # a second; AAC-LC is transparent to most ears there
FORMATS = {AAC: "fltp", FLAC: "s32"}
MP4_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


class SoundTrack:
    """What `sound` is to a container whose sound is in `codec`."""

    def __init__(self, sound: Sound, codec: str) -> None:
        self.rate = _encoded_rate(sound.rate, codec)
        self.channels, self._codec = sound.channels, codec
        self._reader = SoundReader(sound)
        self._even = av.AudioResampler(
            format=FORMATS[codec], layout=LAYOUTS[sound.channels], rate=self.rate
        )
        self._source_rate, self._read = sound.rate, 0
        self._encoder = self._opened()
        self._queue = av.AudioFifo()

    def packets_until(self, time: Fraction) -> list[SoundPacket]:
        """Those that the sound before second `time` completes, after the ones given before."""
        wanted = round(time * self._source_rate) - self._read
        samples = self._reader.read(max(0, wanted))
        if samples.shape[1]:
            frame = av.AudioFrame.from_ndarray(samples, "fltp", LAYOUTS[self.channels])
            frame.sample_rate, frame.pts = self._source_rate, self._read
            frame.time_base = Fraction(1, self._source_rate)
            self._read += samples.shape[1]
            self._fill(frame)
        return [*self._encoded(whole=False)]

    def drain(self) -> list[SoundPacket]:
        """The last ones: what waited to fill a packet."""
        self._fill(None)
        return [*self._encoded(whole=True), *self._encoder.encode(None)]

    def close(self) -> None:
        """Close what the sound is read from."""
        self._reader.close()

    def add_to(self, container: OutputContainer) -> AudioStream:
        """A stream for the packets, described as this encoder is."""
        stream = container.add_stream(self._codec, rate=self.rate)
        assert isinstance(stream, AudioStream)
        _describe(stream.codec_context, self._codec, self.rate, self.channels)
        return stream

    def silence(self) -> list[SoundPacket]:
        """First packets of such a track, for a header that is written before there is sound."""
        encoder = self._opened()
        found: list[SoundPacket] = []
        while len(found) < 2:
            found += encoder.encode(self._quiet(len(found), encoder.frame_size or 1024))
        return found

    @property
    def delay(self) -> int:
        """Samples that the encoder puts before the first one (AAC: 1024)."""
        return int(1024 if self._codec == AAC else 0)

    def _fill(self, frame: av.AudioFrame | None) -> None:
        for made in self._even.resample(frame):
            made.pts = None  # counted by the queue
            self._queue.write(made)

    def _encoded(self, *, whole: bool) -> Iterator[SoundPacket]:
        count = self._encoder.frame_size or 4096
        while self._queue.samples >= count or (whole and self._queue.samples):
            at = self._queue.samples_read
            frame = self._queue.read(count, partial=True)
            assert frame is not None
            frame.pts, frame.time_base = at, Fraction(1, self.rate)
            yield from self._encoder.encode(frame)

    def _quiet(self, number: int, count: int) -> av.AudioFrame:
        frame = av.AudioFrame(FORMATS[self._codec], LAYOUTS[self.channels], count)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts = self.rate, number * count
        frame.time_base = Fraction(1, self.rate)
        return frame

    def _opened(self) -> AudioCodecContext:
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
    """The rate itself, or for AAC, which knows only some, the next higher one."""
    if codec != AAC or rate in MP4_RATES:
        return rate
    return next((known for known in MP4_RATES if known > rate), MP4_RATES[-1])
