"""What programs that were not written here hear at a live address, and when."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
import pytest

from longtake.tests.support.numbered_frames import number_in
from longtake.tests.support.stream.live_site import FFMPEG, MP4, Site, needs_ffmpeg, served
from longtake.tests.support.stream.tones import FIRST, TONE_HZ, pitch_hz, tone

NOISE_FLOOR = 0.05


class Heard(NamedTuple):
    """What ffmpeg decoded: the second of each numbered picture, and mono samples from `start`."""

    pictures: dict[int, float]
    samples: npt.NDArray[np.float32]
    rate: int
    start: float

    def between(self, begin: float, end: float) -> npt.NDArray[np.float32]:
        """The samples of a span of seconds."""
        first, last = (round((second - self.start) * self.rate) for second in (begin, end))
        return self.samples[max(0, first) : last]


async def watch(address: str, seconds: float) -> Heard:
    """Let ffmpeg read and decode an address; PyAV only unpacks the raw pictures and samples."""
    assert FFMPEG
    process = await asyncio.create_subprocess_exec(
        FFMPEG, "-nostdin", "-v", "error", "-i", address, "-t", str(seconds), "-copyts",
        "-fps_mode", "passthrough", "-c:v", "rawvideo", "-pix_fmt", "rgb24", "-c:a", "pcm_f32le",
        "-f", "nut", "-", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    content, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return await asyncio.to_thread(unpack, content)


def unpack(content: bytes) -> Heard:
    pictures: dict[int, float] = {}
    pieces, start, rate = [], 0.0, 0
    with av.open(io.BytesIO(content), format="nut") as file:
        for frame in file.decode():
            if isinstance(frame, av.VideoFrame):
                pictures.setdefault(number_in(frame.to_ndarray(format="rgb24")), frame.time)
            elif isinstance(frame, av.AudioFrame):
                start, rate = (start if pieces else frame.time), frame.sample_rate
                pieces.append(frame.to_ndarray().reshape(-1, 2).mean(1))
    return Heard(pictures, np.concatenate(pieces), rate, start)


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["ts", MP4])
def test_ffmpeg_hears_the_runs_sound_with_its_pictures(tmp_path: Path, ending: str) -> None:
    async def test(site: Site) -> None:
        site.shot.take.sound = tone(400)
        heard = await watch(f"{site.address}.{ending}", 3.0)
        begins = heard.pictures[FIRST]
        assert abs(pitch_hz(heard.between(begins + 0.1, begins + 0.9), heard.rate) - TONE_HZ) < 1
        loud = np.flatnonzero(np.abs(heard.between(0, begins + 1)) > NOISE_FLOOR)
        onset = heard.start + loud[0] / heard.rate
        assert abs(onset - begins) < 0.04, "the tone begins with its picture, within two of them"

    served(tmp_path, test)


@needs_ffmpeg
def test_a_picture_that_is_held_is_silent_and_the_sound_goes_on_with_the_next(
    tmp_path: Path,
) -> None:
    async def test(site: Site) -> None:
        site.shot.take.sound = tone(400)
        watching = asyncio.create_task(watch(f"{site.address}.ts", 12.0))
        while read_so_far(site) < 99:  # 2 s of pictures after 0.5 s, or later under load
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)
        site.shot.add(100)
        heard = await watching
        held, next_at = heard.pictures[99] + 0.2, heard.pictures[100]
        assert np.abs(heard.between(held, next_at - 0.1)).max() < NOISE_FLOOR
        after = heard.between(next_at + 0.1, next_at + 0.9)
        assert np.abs(after).max() > 0.4 and abs(pitch_hz(after, heard.rate) - TONE_HZ) < 1

    served(tmp_path, test)


def read_so_far(site: Site) -> int:
    """The number of the picture that the broadcast read last; 0 before it begins."""
    threads = [*site.sources._threads.values()]
    return threads[0]._broadcast._reader.number if threads else 0


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs the program ffprobe")
def test_ffprobe_finds_stereo_aac(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.shot.take.sound = tone(400)
        process = await asyncio.create_subprocess_exec(
            "ffprobe", "-v", "error", "-show_streams", "-of", "json", f"{site.address}.ts",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        streams = json.loads((await process.communicate())[0])["streams"]
        sound = next(stream for stream in streams if stream["codec_type"] == "audio")
        assert (sound["codec_name"], sound["sample_rate"], sound["channels"]) == ("aac", "48000", 2)

    served(tmp_path, test)
