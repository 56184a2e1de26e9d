"""Laws of a growing video's sound: as long as the pictures, in step, complete after every piece."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from longtake.errors import BadInput
from longtake.stream.video.codecs import AV1, FFV1, PRORES_HQ, VP9, Encoding
from longtake.stream.video.sound.in_file import FileSound
from longtake.stream.video.sound.in_memory import SoundInMemory
from longtake.stream.video.sound.reading import waveform
from longtake.stream.video.sound.track import AAC, SoundTrack
from longtake.stream.video.spec import VideoSpec
from longtake.stream.video.writer import open_video
from longtake.tests.support.clips import beeps, heard, write_clip

FPS, SECONDS = 16, 3
KINDS = [
    (Encoding(), "x.mp4"),
    (Encoding(FFV1), "x.mkv"),
    (Encoding(AV1), "x.mp4"),
    (Encoding(PRORES_HQ, bits=10), "x.mov"),
]


def grey(count: int) -> torch.Tensor:
    return torch.full((count, 3, 32, 48), 0.5)


@pytest.mark.some_cases(3)
@pytest.mark.parametrize(("codec", "name"), KINDS)
@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("counts", [(9, 12, 1, 12, 14), (1, 47)])
def test_sound_is_in_step_with_the_pictures_after_every_piece(
    tmp_path: Path, codec: object, name: str, rate: int, counts: tuple[int, ...]
) -> None:
    """The sound equals bit for bit what one AAC encoder gives for the whole track.

    A lossless container returns the original samples.
    """
    given, path, frames = beeps(SECONDS, rate), tmp_path / name, 0
    plain = given
    if name != "x.mkv":
        write_clip(tmp_path / "plain.mp4", SECONDS * FPS, sound=given, rate=rate)
        plain = heard(tmp_path / "plain.mp4")
    spec = VideoSpec(48, 32, FPS, codec, SoundInMemory(torch.from_numpy(given)[None], rate))
    with open_video(path, spec) as video:
        for count in counts:
            video.write(grey(count))
            video.flush()
            frames += count
            so_far = heard(path)
            behind = round(frames / FPS * rate) - so_far.shape[1]
            assert 0 <= behind <= 3 * 4096  # what waits to fill a packet
            assert np.abs(so_far - plain[:, : so_far.shape[1]]).max(initial=0) < 1e-6
        assert path.stat().st_size == video.bytes_written
    assert path.stat().st_size == video.bytes_written
    whole = heard(path)
    assert np.abs(whole - plain).max() < 1e-6 and 0 <= whole.shape[1] - SECONDS * rate < 1024
    error = whole[:, : given.shape[1]] - given
    assert (error**2).mean() < 1e-3 * (given**2).mean()


@pytest.mark.parametrize("rate", [44100, 48000])
def test_webm_has_its_sound_in_step_as_opus(tmp_path: Path, rate: int) -> None:
    """Opus changes every sample a little; a tone that rises all the time shows any shift."""
    given, path = beeps(SECONDS, rate), tmp_path / "x.webm"
    sound = SoundInMemory(torch.from_numpy(given)[None], rate)
    with open_video(path, VideoSpec(48, 32, FPS, Encoding(VP9), sound)) as video:
        for count in (9, 12, 1, 12, 14):
            video.write(grey(count))
        video.flush()
        growing = heard(path)
    whole, expected = heard(path), beeps(SECONDS, 48000)
    assert 0 <= whole.shape[1] - expected.shape[1] < 960
    for track in (growing, whole[:, : expected.shape[1]]):
        assert track.shape[1] > 2.7 * 48000
        error = track - expected[:, : track.shape[1]]
        assert (error**2).mean() < 0.02 * (expected**2).mean()


@pytest.mark.parametrize(("codec", "name"), [*KINDS, (Encoding(VP9), "x.webm")])
def test_sound_never_outlasts_the_pictures(tmp_path: Path, codec: object, name: str) -> None:
    given = torch.from_numpy(beeps(2, 48000))[None]
    for frames, seconds in ((16, 1), (48, 2)):
        spec = VideoSpec(48, 32, FPS, codec, SoundInMemory(given, 48000))
        with open_video(tmp_path / name, spec) as video:
            video.write(grey(frames))
        assert abs(heard(tmp_path / name).shape[1] - seconds * 48000) < 1024
        with av.open(tmp_path / name) as container:
            assert sum(1 for _ in container.decode(video=0)) == frames


@pytest.mark.parametrize(
    ("fps", "rate"), [(24.0, 44100), (30000 / 1001, 44100), (24000 / 1001, 48000), (7.0, 48000)]
)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_sound_ends_at_the_sample_nearest_to_the_pictures_end(
    tmp_path: Path, fps: float, rate: int, count: int
) -> None:
    """Samples are numbered by their values, and a lossless file keeps these."""
    path, ramp = tmp_path / "x.mkv", torch.arange(rate).expand(1, 2, -1) / 2**16
    spec = VideoSpec(48, 32, fps, Encoding(FFV1), SoundInMemory(ramp, rate))
    with open_video(path, spec) as video:
        for _ in range(count):
            video.write(grey(1))
            video.flush()
    end = round(count * rate / spec.rate)
    assert (heard(path) * 2**16).tolist() == [[*range(end)]] * 2


@pytest.mark.parametrize("samples", [0, 1, 20_001])
def test_a_whole_sound_may_have_any_length(tmp_path: Path, samples: int) -> None:
    wanted = np.random.default_rng(1).integers(-(2**15), 2**15, (samples, 2), np.int16)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 8000, samples, "NONE", ""))
        file.writeframes(wanted.tobytes())
    sound = FileSound.probe(str(tmp_path / "a.wav"))
    assert sound is not None
    whole = waveform(sound)
    assert whole.dtype == torch.float32
    assert torch.equal(whole[0].T, torch.from_numpy(wanted).float() / 2**15)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.25, 2.4, 7.0])
def test_the_rest_of_a_sound_is_a_sound(tmp_path: Path, seconds: float) -> None:
    """Of a file, of a part of it, and in memory."""
    samples = np.random.default_rng(1).integers(-(2**15), 2**15, (20_001, 2), np.int16)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 8000, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    path, first = str(tmp_path / "a.wav"), round(seconds * 8000)
    whole, part = FileSound.probe(path), FileSound.probe(path, 0.25, 2.0)
    assert whole is not None and part is not None
    for sound in (whole, part, SoundInMemory(waveform(whole), 8000)):
        expected = waveform(sound)[..., first:]
        assert torch.equal(waveform(sound.later(seconds)), expected), sound


@pytest.mark.parametrize("packets", [0, 1, 3])
@pytest.mark.parametrize(("codec", "name"), KINDS)
def test_a_sound_may_end_with_its_last_packet(
    tmp_path: Path, codec: Encoding, name: str, packets: int
) -> None:
    """Then FLAC has no samples left at the end, and gives a packet without data."""
    sound = torch.zeros(1, 2, packets * 4608)  # a packet of FLAC at this rate
    spec = VideoSpec(48, 32, FPS, codec, SoundInMemory(sound, 44100))
    with open_video(tmp_path / name, spec) as video:
        video.write(grey(FPS))
    with av.open(tmp_path / name) as container:
        assert sum(1 for _ in container.decode(video=0)) == FPS


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        (torch.zeros(3, 2, 100), 48000, "has the shape"),
        (torch.zeros(2, 100), 48000, "has the shape"),
        (torch.zeros(1, 0, 100), 48000, "has the shape"),
        (None, 48000, "has the shape None"),
        (torch.zeros(1, 9, 100), 48000, "has 9 channels"),
        (torch.zeros(1, 2, 100, dtype=torch.int16), 48000, "has whole numbers"),
        (torch.zeros(1, 2, 100), 0, "has 0 samples a second"),
        (torch.zeros(1, 2, 100), 2**31, "has 2147483648 samples a second"),
        (torch.zeros(1, 2, 100), "48000", "has '48000' samples a second"),
        (torch.tensor([0.0, 0.5, float("nan"), 0.0]).view(1, 1, 4), 2, "has no number at 1.00 s"),
        (torch.full((1, 2, 100), float("inf")), 48000, "has no number at 0.00 s"),
    ],
)
def test_what_is_no_sound_is_refused_before_a_video_begins(
    samples: object, rate: object, reason: str
) -> None:
    with pytest.raises(BadInput, match=f"^The audio {reason}.*; give .*\\.$"):
        SoundInMemory.of(samples, rate)


@pytest.mark.parametrize("channels", [4, 6])
def test_a_mix_of_many_channels_is_never_too_loud(tmp_path: Path, channels: int) -> None:
    """Loudspeakers in step add up to 2.4, which an encoder clips."""
    path, times = tmp_path / "x.wav", np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * 440 * times) * 32000
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, 48000, 0, "NONE", "none"))
        file.writeframes(np.repeat(tone.astype("<i2"), channels).tobytes())
    sound = FileSound.probe(str(path))
    assert sound is not None and sound.channels == 2
    samples = waveform(sound)[0].numpy()
    assert samples.shape == (2, 48000) and 0.9 < np.abs(samples).max() <= 1
    assert np.abs(samples - tone / 32768).max() < 0.02


@pytest.mark.parametrize("channels", [3, 4, 6, 8])
def test_many_channels_in_memory_sound_as_those_of_a_file(tmp_path: Path, channels: int) -> None:
    """The centre and the speakers behind are in both; the subwoofer is in neither."""
    path, generator = tmp_path / "x.wav", np.random.default_rng(channels)
    numbers = generator.integers(-(2**15), 2**15, (channels, 20000)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, 8000, 0, "NONE", "none"))
        file.writeframes(numbers.T.tobytes())
    in_file = FileSound.probe(str(path))
    in_memory = SoundInMemory.of(torch.from_numpy(numbers / 32768)[None].float(), 8000)
    assert in_file is not None and in_memory.channels == 2
    expected, samples = waveform(in_file), waveform(in_memory)
    assert samples.shape == (1, 2, 20000) and (samples - expected).abs().max() < 1e-6
    assert torch.equal(waveform(in_memory.later(1.0)), samples[..., 8000:])


@pytest.mark.parametrize("rate", [655_350, 3_000_000])
def test_a_lossless_video_takes_sound_of_any_rate(tmp_path: Path, rate: int) -> None:
    sound = SoundInMemory(torch.zeros(1, 2, rate // 4), rate)
    with open_video(tmp_path / "x.mkv", VideoSpec(48, 32, FPS, Encoding(FFV1), sound)) as video:
        video.write(grey(4))
    assert abs(heard(tmp_path / "x.mkv").shape[1] - 655_350 // 4) <= 1


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(8000, 8000), (8001, 11025), (12345, 16000), (44100, 44100), (96001, 96000), (192000, 96000)],
)
def test_aac_has_the_next_rate_it_knows_or_its_highest(rate: int, expected: int) -> None:
    sound = SoundInMemory(torch.zeros(1, 2, 10), rate)
    assert SoundTrack(sound, AAC).rate == expected


@torch.inference_mode(False)
def test_a_sound_that_was_trained_through_is_a_sound() -> None:
    """Some nodes forget to leave its gradients behind."""
    samples = torch.rand(1, 2, 100, requires_grad=True)
    assert torch.equal(waveform(SoundInMemory.of(samples, 10)), samples.detach())
