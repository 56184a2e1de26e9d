"""Laws of video files: playable after every chunk, exact where promised, never damaged."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from longtake.errors import BadInput, LongtakeError, StorageError
from longtake.stream.video import writer as video_module
from longtake.stream.video.codecs import (
    AV1,
    FFV1,
    H264,
    H265,
    PRORES_4444,
    PRORES_HQ,
    VP9,
    Encoding,
)
from longtake.stream.video.fragments import MP4Fragments
from longtake.stream.video.spec import PNGFrames, VideoFormat, VideoSpec
from longtake.stream.video.writer import open_video

ROOT = Path(__file__).resolve().parents[3]
FILES = [(Encoding(), "video.mp4"), (Encoding(FFV1), "video.mkv")]
OTHERS = [
    (Encoding(H264, 12, 10), "video.mp4"),
    *((Encoding(H265, 12, bits), "video.mp4") for bits in (8, 10)),
    *((Encoding(AV1, 12, bits), "video.mp4") for bits in (8, 10)),
    (Encoding(VP9, 12), "video.webm"),
    *((Encoding(codec, bits=10), "video.mov") for codec in (PRORES_HQ, PRORES_4444)),
]


def moving_frames(first: int, count: int, height: int = 32, width: int = 48) -> Tensor:
    """Eight-bit pictures that show their number as a grey level, and smooth colours."""
    ramp = torch.linspace(0, 90, width).round().expand(height, width)
    frames = [
        torch.stack([torch.full((height, width), float(number * 7 % 256)), ramp, ramp.flip(-1)])
        for number in range(first, first + count)
    ]
    return torch.stack(frames) / 255


def played(path: Path) -> tuple[NDArray[np.uint8], list[Fraction], Fraction | None]:
    """The pictures `(n, H, W, 3)`, times in seconds and frame rate of a file."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames = [*container.decode(stream)]
        rate = stream.average_rate
    pictures = [rgb(frame) for frame in frames]
    times = [(frame.pts or 0) * Fraction(frame.time_base or 0) for frame in frames]
    return np.stack(pictures), times, rate


def rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The picture in a frame; yuv by ITU-R BT.709, since PyAV's conversion differs by version."""
    if not frame.format.name.startswith("yuv"):
        return frame.to_ndarray(format="rgb24")
    y, u, v = frame.reformat(format="yuv444p").to_ndarray().astype(float)
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    channels = [y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u]
    return (np.stack(channels, -1).clip(0, 1) * 255).round().astype(np.uint8)


def read_picture(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def close_to(pictures: NDArray[np.uint8], frames: Tensor) -> bool:
    expected = frames.mul(255).round().permute(0, 2, 3, 1).numpy()
    return pictures.shape == expected.shape and bool(np.abs(pictures - expected).mean() < 4)


@pytest.mark.some_cases(6)
@pytest.mark.parametrize(("codec", "name"), [*FILES, *OTHERS])
@pytest.mark.parametrize(
    ("fps", "counts"),
    [(12.5, (9, 12, 1, 12)), (Fraction(30000, 1001), (9, 12, 1, 12)), (16.0, (1, 12, 40))],
)
def test_a_growing_file_plays_after_every_chunk(
    tmp_path: Path, codec: VideoFormat, name: str, fps: float | Fraction, counts: tuple[int, ...]
) -> None:
    path, sizes, total = tmp_path / "new" / name, [0], 0
    with open_video(path, VideoSpec(48, 32, fps, codec)) as video:
        for count in counts:
            video.write(moving_frames(total, count))
            video.flush()
            total += count
            pictures, times, rate = played(path)
            assert len(pictures) == total == video.frames_written
            assert rate == VideoSpec(48, 32, fps).rate
            assert [round(time * rate) for time in times] == [*range(total)]
            assert close_to(pictures, moving_frames(0, total))
            sizes.append(path.stat().st_size)
            assert sizes[-1] == video.bytes_written > sizes[-2]
    assert path.stat().st_size == video.bytes_written
    assert len(played(path)[0]) == total


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (1, 1), (5, 123)])
def test_lossless_is_bit_exact(tmp_path: Path, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (7, 3, height, width), generator=generator)
    with open_video(tmp_path / "x.mkv", VideoSpec(width, height, 16, Encoding(FFV1))) as video:
        for some in (pixels / 255).split(3):
            video.write(some)
    pictures, _, _ = played(tmp_path / "x.mkv")
    assert np.array_equal(pictures, pixels.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (5, 123)])
def test_png_frames_are_bit_exact(tmp_path: Path, height: int, width: int) -> None:
    frames = moving_frames(0, 5, height, width)
    with open_video(tmp_path / "frames", VideoSpec(width, height, 16, PNGFrames())) as video:
        video.write(frames[:2])
        video.write(frames[2:])
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"frame_{number:06d}.png" for number in range(5)]
    pictures = np.stack([read_picture(tmp_path / "frames" / name) for name in names])
    assert np.array_equal(pictures, frames.mul(255).round().permute(0, 2, 3, 1).numpy())
    assert video.bytes_written == sum((tmp_path / "frames" / n).stat().st_size for n in names)


@pytest.mark.parametrize(("height", "width"), [(33, 47), (5, 123)])
def test_mp4_grows_odd_sizes_to_even(tmp_path: Path, height: int, width: int) -> None:
    frames = moving_frames(0, 3, height, width)
    with open_video(tmp_path / "x.mp4", VideoSpec(width, height, 16)) as video:
        video.write(frames)
    pictures, _, _ = played(tmp_path / "x.mp4")
    assert pictures.shape == (3, height + height % 2, width + width % 2, 3)
    assert close_to(pictures[:, :height, :width], frames)


def test_mp4_tags_and_keeps_its_colours(tmp_path: Path) -> None:
    colours = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.9, 0.5, 0.2]]
    )
    with open_video(tmp_path / "x.mp4", VideoSpec(32, 32, 16)) as video:
        video.write(colours[:, :, None, None].expand(-1, -1, 32, 32))
    with av.open(tmp_path / "x.mp4") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc) == (1, 1, 1)
        assert codec.color_range == 1 and codec.pix_fmt == "yuv420p" and codec.name == "h264"
    middle = played(tmp_path / "x.mp4")[0][:, 16, 16]
    assert np.abs(middle - colours.mul(255).numpy()).max() <= 4


def test_the_same_pictures_always_give_the_same_mp4(tmp_path: Path) -> None:
    """With x264's look-ahead, one run in ten differed on busy cores and none on idle ones."""
    contents = set()
    for number in range(40):
        path = tmp_path / f"{number}.mp4"
        with open_video(path, VideoSpec(48, 32, 16)) as video:
            for chunk in range(4):
                video.write(moving_frames(chunk * 6, 6))
        contents.add(path.read_bytes())
    assert len(contents) == 1
    said = contents.pop()  # x264 writes its settings into the file
    assert b" mbtree=0" in said


def test_values_outside_the_range_are_clipped(tmp_path: Path) -> None:
    with open_video(tmp_path / "x.mkv", VideoSpec(2, 2, 16, Encoding(FFV1))) as video:
        video.write(torch.tensor([-1.0, 0.5, 2.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2))
    assert (played(tmp_path / "x.mkv")[0] == [0, 128, 255]).all()


@pytest.mark.parametrize(("codec", "name"), [*FILES, (PNGFrames(), "frames")])
def test_an_unwritable_folder_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, codec: VideoFormat, name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=f"file/{name} cannot be written.*choose another folder"):
        open_video(tmp_path / "file" / name, VideoSpec(48, 32, 16, codec))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("codec", "name"), [*FILES, (PNGFrames(), "frames")])
def test_a_video_without_frames_leaves_no_file(
    tmp_path: Path, codec: VideoFormat, name: str
) -> None:
    video = open_video(tmp_path / name, VideoSpec(48, 32, 16, codec))
    video.write(torch.empty(0, 3, 32, 48))
    video.close()
    video.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "wrong",
    [
        dict(width=0), dict(height=-2), dict(width=10**6),
        dict(fps=0), dict(fps=float("nan")), dict(fps=float("inf")), dict(fps=-1),
    ],
)  # fmt: skip
def test_impossible_videos_are_refused_with_the_value(wrong: dict[str, float]) -> None:
    possible: dict[str, float] = {"width": 48, "height": 32, "fps": 16}
    with pytest.raises(BadInput, match=str(*wrong.values())):
        VideoSpec(**{**possible, **wrong})  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="crf"):
        Encoding(crf=52)


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    with (
        open_video(tmp_path / "x.mp4", VideoSpec(48, 32, 16)) as video,
        pytest.raises(ValueError, match=r"3, 32, 48.*3, 48, 32"),
    ):
        video.write(torch.zeros(2, 3, 48, 32))


def test_a_missing_encoder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"png"})
    with pytest.raises(BadInput, match="no libx264 encoder"):
        open_video(tmp_path / "x.mp4", VideoSpec(48, 32, 16))
    assert not [*tmp_path.iterdir()]


def test_an_encoder_error_surfaces_and_the_file_plays_up_to_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = open_video(tmp_path / "x.mp4", VideoSpec(48, 32, 16))
    video.write(moving_frames(0, 5))
    video.flush()

    def fail(*_: object, **__: object) -> None:
        raise av.error.ExternalError(542398533, "Generic error in an external library")

    monkeypatch.setattr(MP4Fragments, "encode", fail)
    video.write(moving_frames(5, 5))
    with pytest.raises(LongtakeError, match="encoder failed on .*x.mp4"):
        for _ in range(5):  # never blocks, although the worker has given up
            video.write(moving_frames(10, 5))
        video.flush()
    with pytest.raises(LongtakeError):  # and never drops frames in silence
        video.write(moving_frames(10, 5))
    video.close()
    assert len(played(tmp_path / "x.mp4")[0]) == 5


class FullDisk:
    """A file that accepts a limited number of bytes, in short writes."""

    def __init__(self, file: object, room: int) -> None:
        self._file = file
        self._room = room

    def write(self, piece: memoryview) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(self._room, len(piece), 1000)
        self._room -= taken
        written: int = self._file.write(piece[:taken])  # type: ignore[attr-defined]
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_an_unraised_error_is_raised_by_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = open_video(tmp_path / "x.mp4", VideoSpec(48, 32, 16))
    monkeypatch.setattr(video_module, "to_pictures", lambda frames, bits: 1 / 0)
    video.write(moving_frames(0, 1))
    with pytest.raises(ZeroDivisionError):
        video.close()
    video.close()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("codec", "name"), FILES)
def test_a_full_disk_is_one_sentence_and_the_file_plays_up_to_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: VideoFormat, name: str
) -> None:
    pieces = _piece_sizes(tmp_path / "try", codec)
    plain_open = Path.open
    room = sum(pieces[:2]) + pieces[2] // 2
    monkeypatch.setattr(Path, "open", lambda *a, **k: FullDisk(plain_open(*a, **k), room))
    video = open_video(tmp_path / name, VideoSpec(48, 32, 16, codec))
    monkeypatch.undo()
    with pytest.raises(StorageError, match=f"{name} cannot be written .No space left"):
        for chunk in range(4):
            video.write(moving_frames(chunk * 6, 6))
        video.close()
    video.close()
    assert (tmp_path / name).stat().st_size == video.bytes_written == sum(pieces[:2])
    assert len(played(tmp_path / name)[0]) == video.frames_written == 12


def _piece_sizes(path: Path, codec: VideoFormat) -> list[int]:
    sizes = [0]
    video = open_video(path, VideoSpec(48, 32, 16, codec))
    for chunk in range(3):
        video.write(moving_frames(chunk * 6, 6))
        video.flush()
        sizes.append(video.bytes_written)
    video.close(complete=False)
    return [after - before for before, after in zip(sizes, sizes[1:], strict=False)]


def test_at_most_two_chunks_wait_and_none_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a blocked encoder, one chunk is in work, two wait, and the caller blocks."""
    gate, alive = threading.Event(), weakref.WeakSet[Tensor]()
    encode = MP4Fragments.encode

    def held_up(self: object, pictures: NDArray[np.uint8]) -> bytes:
        gate.wait()
        return encode(self, pictures)  # type: ignore[arg-type]

    monkeypatch.setattr(MP4Fragments, "encode", held_up)
    video = open_video(tmp_path / "x.mp4", VideoSpec(48, 32, 16))
    given = list[int]()

    def give() -> None:
        for number in range(8):
            chunk = moving_frames(number, 1)
            alive.add(chunk)
            video.write(chunk)
            given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    while len(given) < 3 or len(alive) < 4:  # pytest's own limit ends it
        time.sleep(0.001)
    giver.join(timeout=0.2)  # does not end, since nothing goes on
    assert len(given) == 3 and len(alive) == 4
    gate.set()
    giver.join()
    video.flush()
    assert len(alive) == 0
    video.close()
    assert video.frames_written == 8


@pytest.mark.skipif(os.name != "posix", reason="kill -9 as on POSIX")
def test_a_killed_writer_leaves_playable_files(tmp_path: Path) -> None:
    script = (
        f"import runpy; runpy.run_path({str(ROOT / 'tests' / 'conftest.py')!r})\n"
        "import sys, torch; from pathlib import Path\n"
        "from longtake.stream.video.spec import *\n"
        "from longtake.stream.video.codecs import *\n"
        "from longtake.stream.video.writer import *\n"
        "specs = [VideoSpec(48, 32, 16, codec) for codec in (Encoding(), Encoding(FFV1))]\n"
        "videos = [open_video(Path(path), spec) for path, spec in zip(sys.argv[1:], specs)]\n"
        "while True:\n"
        "    for video in videos:\n"
        "        video.write(torch.rand(6, 3, 32, 48)); video.flush()\n"
        "    print(video.frames_written, flush=True)\n"
    )
    paths = [tmp_path / name for _, name in FILES]
    command = [sys.executable, "-c", script, *map(str, paths)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(10):
        known = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert known == 60 and all(len(played(path)[0]) >= known for path in paths)


@pytest.mark.parametrize(("codec", "name"), FILES)
def test_a_torn_last_piece_costs_only_that_piece(
    tmp_path: Path, codec: VideoFormat, name: str
) -> None:
    """Simulates a power cut in the middle of an append."""
    path, pieces = tmp_path / name, _piece_sizes(tmp_path / name, codec)
    whole = path.read_bytes()
    for cut in (1, pieces[2] // 2, pieces[2] - 1):
        path.write_bytes(whole[: len(whole) - cut])
        with av.open(path) as container:
            count = 0
            try:
                for _ in container.decode(video=0):
                    count += 1
            except av.FFmpegError:
                assert count >= 12
        assert 12 <= count <= 18
