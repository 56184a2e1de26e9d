"""Laws of reading a video: the right picture at any time, from any start, in constant memory."""

from __future__ import annotations

import io
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from longtake.errors import BadInput
from longtake.stream.video.codecs import FFV1, Encoding
from longtake.stream.video.reading.reader import VideoReader
from longtake.stream.video.reading.source import FrameRequest, VideoClip, probe_size
from longtake.stream.video.sound.in_file import FileSound
from longtake.stream.video.sound.reading import SoundReader, waveform
from longtake.stream.video.spec import VideoSpec
from longtake.stream.video.writer import open_video
from longtake.tests.support.clips import (
    beeps,
    heard,
    numbers,
    open_files,
    pieces,
    write_clip,
)


@pytest.mark.some_cases(6)
@pytest.mark.parametrize(
    ("own", "fps", "start", "length"),
    [(16, 16, 0, 0), (24, 16, 0, 0), (16, 24, 0, 0), (16, 16, 1.25, 1), (24, 16, -1.0, 0),
     (Fraction(30000, 1001), 16, 0.51, 0), (16, 12.5, 0.7, 1.1)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_each_moment_shows_the_newest_picture_of_the_file(
    tmp_path: Path, own: Fraction | int, fps: float, start: float, length: float, name: str
) -> None:
    count = 61
    codec = "libx264" if name == "x.mp4" else "ffv1"
    write_clip(tmp_path / name, count, own, codec=codec)
    clip = VideoClip.probe(
        str(tmp_path / name), FrameRequest(Fraction(fps), start=start, length=length)
    )
    shown = numbers(torch.cat([*pieces(clip)]))
    first = start if start >= 0 else count / own + start
    times = [first + n / fps for n in range(len(shown))]
    assert shown == [min(count - 1, int(time * own + 0.02)) for time in times]
    end = count / own if not length else first + length
    assert len(shown) == clip.frame_total and times[-1] < end <= times[-1] + 1 / fps + 0.002


def test_reading_may_begin_at_any_frame(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", 50, 24)
    clip = VideoClip.probe(str(tmp_path / "x.mp4"), FrameRequest(Fraction(16), start=0.2))
    whole = torch.cat([*pieces(clip, count=5)])
    for first in (0, 1, 7, clip.frame_total - 1):
        assert torch.equal(torch.cat([*pieces(clip, first, 4)]), whole[first:])


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("x.ts", "libx264", {"x264-params": "bframes=2:keyint=5"}),
     ("x.avi", "mpeg4", {"bf": "2"}),
     ("open_groups.mp4", "libx264", {"x264-params": "bframes=3:keyint=8:open-gop=1"})],
)  # fmt: skip
def test_reading_begins_right_where_a_search_in_the_file_does_not(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    """The containers' searches go behind the second that is sought, or between key frames."""
    path = tmp_path / name
    with av.open(path, "w") as container:
        video = container.add_stream(codec, rate=10, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(40):
            grey = np.full((48, 64, 3), 10 * number % 250, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(video.encode())
    clip = VideoClip.probe(str(path), FrameRequest(Fraction(10)))
    whole = torch.cat([*pieces(clip)])
    for first in range(clip.frame_total):
        assert torch.equal(torch.cat([*pieces(clip, first)]), whole[first:]), first


def test_raw_dv_has_the_rate_of_its_pictures(tmp_path: Path) -> None:
    """FFmpeg says 60000 a second, which is the rate of the file's clock."""
    path = tmp_path / "x.dv"
    with av.open(path, "w") as container:
        video = container.add_stream("dvvideo", rate=25)
        video.width, video.height, video.pix_fmt = 720, 576, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=48000, layout="stereo")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4 * 48000 // 25), np.int16), "s16")
        samples.sample_rate = 48000
        for _ in range(2):
            picture = av.VideoFrame(720, 576, "yuv420p")
            container.mux([*video.encode(picture), *sound.encode(samples)])
        container.mux([*video.encode(), *sound.encode()])
    assert probe_size(str(path)) == (25, 768, 576)


def test_the_rate_is_counted_where_the_file_does_not_say(tmp_path: Path) -> None:
    """A browser's recording lacks it, as this file without Matroska's DefaultDuration."""
    path = tmp_path / "x.mkv"
    write_clip(path, 31, 30, codec="mpeg4")
    content = path.read_bytes()
    place = content.index(b"\x23\xe3\x83\x84")
    path.write_bytes(content[:place] + b"\xec\x86" + bytes(6) + content[place + 8 :])
    assert probe_size(str(path)) == (30, 96, 64)


def test_a_picture_stands_where_a_packet_is_empty(tmp_path: Path) -> None:
    """Theora writes such packets; NUT is a container that keeps them."""
    path, standing = tmp_path / "x.nut", (3, 4, 9)
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=10, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            grey = np.full((48, 64, 3), 20 * number, np.uint8)
            for packet in video.encode(av.VideoFrame.from_ndarray(grey, "rgb24")):
                part = av.Packet(b"") if number in standing else packet
                part.stream, part.time_base = video, packet.time_base
                part.pts, part.dts = packet.pts, packet.dts
                container.mux(part)
    clip = VideoClip.probe(str(path), FrameRequest(Fraction(10)))
    shown = torch.cat([*pieces(clip)]).mean((1, 2, 3)) * 255 / 20
    assert shown.round().tolist() == [0, 1, 2, 2, 2, 5, 6, 7, 8, 8]


@pytest.mark.parametrize("name", ["x.ts", "x.flv"])
def test_a_file_that_was_cut_off_is_read_up_to_its_end(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut at many places, so that a packet of pictures or sound is cut in two."""
    whole = tmp_path / name
    write_clip(whole, 40, sound=beeps(2.5, 48000))
    content, cut = whole.read_bytes(), tmp_path / f"cut_{name}"
    for percent in range(40, 100, 3):
        cut.write_bytes(content[: len(content) * percent // 100])
        clip = VideoClip.probe(str(cut), FrameRequest(Fraction(16)))
        assert len(torch.cat([*pieces(clip)])) == clip.frame_total
        sound = FileSound.probe(str(cut))
        assert sound is not None and waveform(sound).shape[-1] > 0.3 * 40 / 16 * 48000
    assert f"Damaged parts of the video {cut} are left out" in caplog.text


def one_second_later(path: Path) -> Path:
    """A copy of an MPEG-TS file whose times are a second later."""
    copy = path.with_name(f"later_{path.name}")
    options = {"output_ts_offset": "1", "mpegts_copyts": "1"}
    with av.open(path) as source, av.open(copy, "w", options=options) as target:
        streams = [target.add_stream_from_template(own) for own in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return copy


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (44100, 2)])
def test_a_sound_may_change_its_channels_and_its_rate(
    tmp_path: Path, rate: int, channels: int
) -> None:
    """As in a recording of two programmes; the sound stays as it is at first."""
    parts = tmp_path / "one.ts", tmp_path / "other.ts"
    write_clip(parts[0], 16, sound=beeps(1, 48000))
    write_clip(parts[1], 16, sound=beeps(1, rate, channels), rate=rate)
    both = tmp_path / "both.ts"
    both.write_bytes(parts[0].read_bytes() + one_second_later(parts[1]).read_bytes())
    sound = FileSound.probe(str(both))
    assert sound is not None and (sound.rate, sound.channels) == (48000, 2)
    samples = waveform(sound)[0].numpy()
    assert samples.shape[0] == 2 and 1.9 < samples.shape[1] / 48000 < 2.2
    hundredths = np.abs(samples[0, 52800:91200]).reshape(-1, 480)  # of the second
    assert hundredths.max(1).min() > 0.1  # without a gap of silence


def test_pictures_are_scaled_to_cover_and_cropped_evenly(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mkv", 3, size=(160, 96), codec="ffv1")
    own = torch.cat([*pieces(VideoClip.probe(str(tmp_path / "x.mkv"), FrameRequest(Fraction(16))))])
    for width, height in ((80, 48), (48, 48), (160, 32)):
        clip = VideoClip.probe(str(tmp_path / "x.mkv"), FrameRequest(Fraction(16), width, height))
        made = torch.cat([*pieces(clip)])
        assert made.shape == (3, 3, height, width)
        scale = max(width / 160, height / 96)
        size = (round(96 * scale), round(160 * scale))
        whole = torch.nn.functional.interpolate(own, size, mode="area")
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        expected = whole[:, :, top : top + height, left : left + width]
        assert (made - expected).abs().mean() < 0.02


def test_a_file_in_memory_is_read_like_one_on_disk(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", 20, sound=beeps(1, 48000))
    kept = io.BytesIO((tmp_path / "x.mp4").read_bytes())
    on_disk, in_memory = (
        VideoClip.probe(s, FrameRequest(Fraction(16))) for s in (str(tmp_path / "x.mp4"), kept)
    )
    assert on_disk.digest == in_memory.digest
    for a, b in zip(pieces(on_disk), pieces(in_memory), strict=True):  # two readers at once
        assert torch.equal(a, b)
    assert FileSound.probe(kept) is not None


def test_another_file_part_rate_or_size_has_another_digest(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", 20)
    write_clip(tmp_path / "b.mp4", 21)
    requests = [
        FrameRequest(Fraction(16)),
        FrameRequest(Fraction(8)),
        FrameRequest(Fraction(16), 48, 32),
        FrameRequest(Fraction(16), start=0.5),
        FrameRequest(Fraction(16), length=0.5),
    ]
    names = [VideoClip.probe(str(tmp_path / "a.mp4"), request).digest for request in requests]
    names.append(VideoClip.probe(str(tmp_path / "b.mp4"), requests[0]).digest)
    assert len({*names}) == 6


@pytest.mark.parametrize("content", [b"", b"not a video" * 50, "half", "sound only", "no file"])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, content: object) -> None:
    path = tmp_path / "x.mp4"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "half":
        write_clip(path, 20)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif content == "sound only":
        with av.open(path, "w") as container:
            track = container.add_stream("aac", rate=48000)
            silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            silence.sample_rate = 48000
            container.mux(track.encode(silence))
            container.mux(track.encode())
    with pytest.raises(BadInput) as refused:
        VideoClip.probe(str(path), FrameRequest(Fraction(16)))
    assert str(refused.value).count(". ") == 0


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_texts_in_another_encoding_do_not_keep_a_video_from_being_read(
    tmp_path: Path, name: str
) -> None:
    codec = Encoding() if name == "x.mp4" else Encoding(FFV1)
    spec = VideoSpec(48, 32, 16, codec, metadata={"title": "Latin-X text"})
    with open_video(tmp_path / name, spec) as video:
        video.write(torch.rand(5, 3, 32, 48))
    content = (tmp_path / name).read_bytes()
    assert content.count(b"Latin-X") == 1
    (tmp_path / name).write_bytes(content.replace(b"Latin-X", b"Latin-\xe9"))
    clip = VideoClip.probe(str(tmp_path / name), FrameRequest(Fraction(16)))
    assert len(torch.cat([*pieces(clip)])) == 5


def test_a_start_after_the_end_is_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", 16)
    with pytest.raises(BadInput, match="1.00 s long"):
        VideoClip.probe(str(tmp_path / "x.mp4"), FrameRequest(Fraction(16), start=2.0))


@pytest.mark.parametrize("start", [0.0, 0.5, 1.30001])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_sound_of_a_part_matches_its_pictures(
    tmp_path: Path, start: float, channels: int
) -> None:
    write_clip(tmp_path / "x.mkv", 48, sound=beeps(3, 48000, channels), codec="ffv1")
    whole, first = heard(tmp_path / "x.mkv"), round(start * 48000)
    sound = FileSound.probe(str(tmp_path / "x.mkv"), start, 1.0)
    assert sound is not None and (sound.rate, sound.channels) == (48000, channels)
    reader, parts = SoundReader(sound), []
    for count in (1, 999, 30000, 48000):
        parts.append(reader.read(count))
    made = np.concatenate(parts, 1)
    assert made.shape == (channels, 48000)
    late = 48  # samples: Matroska rounds times to a millisecond
    errors = [np.abs(made - whole[:, first + d : first + d + 48000]).max()
              for d in range(-late, late + 1) if first + d >= 0]  # fmt: skip
    assert min(errors) < 1e-6


def test_reading_a_long_video_holds_no_more_than_a_short_one(tmp_path: Path) -> None:
    """Compares Python's allocations, including arrays, for 2 s and 40 s of pictures and sound."""
    peaks = []
    for seconds in (2, 40):
        path = tmp_path / f"{seconds}.mp4"
        write_clip(path, 16 * seconds, sound=beeps(seconds, 8000, 1), rate=8000)
        tracemalloc.start()
        clip, sound = (
            VideoClip.probe(str(path), FrameRequest(Fraction(16))),
            FileSound.probe(str(path)),
        )
        assert sound is not None
        reader = SoundReader(sound)
        for piece in pieces(clip):
            reader.read(8000 * len(piece) // 16)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_a_closed_or_dropped_reader_leaves_no_file_open(tmp_path: Path) -> None:
    """Leaves pictures and sound in the middle; a closed reader continues where it was."""
    path = tmp_path / "x.mkv"
    write_clip(path, 48, sound=beeps(3, 48000), codec="ffv1")
    clip, sound = VideoClip.probe(str(path), FrameRequest(Fraction(16))), FileSound.probe(str(path))
    assert sound is not None
    reader, listener = VideoReader(clip), SoundReader(sound)
    assert open_files(path) == 0  # nothing is read before it is wanted
    assert numbers(reader.read(5)) == [*range(5)] and listener.read(100).shape == (2, 100)
    assert open_files(path) == 2
    reader.close()
    listener.close()
    assert open_files(path) == 0
    assert numbers(reader.read(5)) == [*range(5, 10)] and open_files(path) == 1
    del reader
    assert open_files(path) == 0
    reader = VideoReader(clip)
    while reader.read(16) is not None:
        pass
    assert open_files(path) == 0


@pytest.mark.parametrize("name", ["y.mp4", "y.mkv"])
def test_a_saved_video_leaves_the_file_of_its_sound_closed(tmp_path: Path, name: str) -> None:
    """The pictures end before the sound does."""
    path = tmp_path / "x.mkv"
    write_clip(path, 48, sound=beeps(3, 48000), codec="ffv1")
    codec = Encoding() if name == "y.mp4" else Encoding(FFV1)
    with open_video(tmp_path / name, VideoSpec(96, 64, 16, codec, FileSound.probe(str(path)))) as y:
        y.write(torch.rand(8, 3, 64, 96))
        y.flush()
        assert open_files(path) == 1
    assert open_files(path) == 0
