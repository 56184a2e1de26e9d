"""Laws of videos that are finished: their index is at the front, and they name their workflow."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from longtake.errors import StorageError
from longtake.stream.lazy.frame_chunk import to_pictures
from longtake.stream.video import faststart
from longtake.stream.video.codecs import FFV1, H265, Encoding
from longtake.stream.video.contact_sheet import ContactSheet
from longtake.stream.video.sound.in_memory import SoundInMemory
from longtake.stream.video.spec import PNGFrames, VideoSpec
from longtake.stream.video.writer import open_video
from longtake.tests.support.clips import beeps, heard

ROOT = Path(__file__).resolve().parents[3]
TEXTS = {
    "prompt": json.dumps({"1": {"class_type": "Ä", "inputs": {"text": '0: a "red" ball\n€'}}}),
    "workflow": json.dumps({"nodes": [], "version": 0.4, "blob": "x" * 200_000}),
}


def frames(first: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(first)
    return torch.rand(count, 3, 32, 48, generator=generator)


def boxes(path: Path) -> list[str]:
    """The types of a file's top-level boxes."""
    data, place, kinds = path.read_bytes(), 0, []
    while place < len(data):
        kinds.append(data[place + 4 : place + 8].decode())
        place += int.from_bytes(data[place : place + 4], "big")
    return kinds


def texts(path: Path) -> dict[str, str]:
    """The texts of a file, by key in lower case, as Matroska has them in upper case."""
    with av.open(path) as container:
        return {key.lower(): text for key, text in container.metadata.items()}


def pictures(path: Path) -> tuple[list[float], np.ndarray]:
    """The times in seconds and the pictures of a file."""
    with av.open(path) as container:
        shown = [*container.decode(video=0)]
    times = [float((frame.pts or 0) * (frame.time_base or 0)) for frame in shown]
    return times, np.stack([frame.to_ndarray(format="rgb24") for frame in shown])


@pytest.mark.parametrize(
    "sound", [None, SoundInMemory(torch.from_numpy(beeps(3, 44100))[None], 44100)]
)
def test_a_finished_mp4_has_its_index_first_and_is_otherwise_the_same(
    tmp_path: Path, sound: SoundInMemory | None
) -> None:
    path = tmp_path / "x.mp4"
    video = open_video(path, VideoSpec(48, 32, 12.5, Encoding(), sound, TEXTS))
    for place in range(3):
        video.write(frames(place, 9))
    video.flush()
    assert (
        boxes(path) == ["ftyp", "moov", *["moof", "mdat"] * 3]
        and TEXTS.items() <= texts(path).items()
    )
    growing = pictures(path)
    video.close()
    assert boxes(path)[:2] == ["ftyp", "moov"] and "moof" not in boxes(path)
    times, shown = pictures(path)
    assert times == growing[0] and np.array_equal(shown, growing[1])
    assert TEXTS.items() <= texts(path).items()
    assert [*tmp_path.iterdir()] == [path] and video.bytes_written == path.stat().st_size
    if sound is not None:
        expected = beeps(3, 44100)[:, : round(27 / 12.5 * 44100)]
        played = heard(path)[:, : expected.shape[1]]
        assert played.shape == expected.shape and np.abs(played - expected).mean() < 0.01


def test_a_video_that_is_cut_short_stays_in_pieces(tmp_path: Path) -> None:
    """So that a later run can add to it."""
    with (
        pytest.raises(KeyboardInterrupt),
        open_video(tmp_path / "x.mp4", VideoSpec(48, 32, 16)) as video,
    ):
        video.write(frames(0, 9))
        raise KeyboardInterrupt
    assert boxes(tmp_path / "x.mp4") == ["ftyp", "moov", "moof", "mdat"]


@pytest.mark.parametrize("cause", [OSError(28, "No space left on device"), av.FFmpegError(1, "x")])
def test_a_video_whose_index_cannot_be_moved_is_kept_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cause: Exception,
) -> None:
    def fail(*paths: object) -> None:
        Path(str(paths[1])).write_bytes(b"half")
        raise cause

    monkeypatch.setattr(faststart, "_copy_packets", fail)
    path = tmp_path / "x.mp4"
    with caplog.at_level(logging.WARNING), open_video(path, VideoSpec(48, 32, 16)) as video:
        video.write(frames(0, 9))
    assert len(pictures(path)[1]) == 9 and [*tmp_path.iterdir()] == [path]
    assert str(path) in caplog.text and "index could not be moved" in caplog.text


KILLED = """
import os, signal, sys, torch
from pathlib import Path
import longtake.stream.video.faststart as faststart
from longtake.stream.video.spec import VideoSpec
from longtake.stream.video.writer import open_video
os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
with open_video(Path(sys.argv[1]), VideoSpec(48, 32, 16)) as video:
    video.write(torch.rand(9, 3, 32, 48))
"""


def test_a_kill_while_the_index_is_moved_leaves_a_video_that_plays(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    package = tmp_path / "path"
    package.mkdir()
    (package / "longtake").symlink_to(ROOT)
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], env={**os.environ, "PYTHONPATH": str(package)}
    )
    assert run.returncode == -signal.SIGKILL
    assert len(pictures(path)[1]) == 9 and "moof" in boxes(path)
    with open_video(path, VideoSpec(48, 32, 16)) as video:  # the name is free for another run
        video.write(frames(0, 9))
    assert not list(tmp_path.glob("*.tmp")) and "moof" not in boxes(path)


def test_a_lossless_video_has_the_texts_from_its_first_piece_on(tmp_path: Path) -> None:
    spec = VideoSpec(48, 32, 16, Encoding(FFV1), metadata=TEXTS)
    with open_video(tmp_path / "x.mkv", spec) as video:
        for place in range(2):
            video.write(frames(place, 9))
            video.flush()
            assert TEXTS.items() <= texts(tmp_path / "x.mkv").items()
    assert (tmp_path / "x.mkv").read_bytes().count(b"PROMPT") == 1


def test_pictures_have_the_texts_where_the_canvas_reads_them(tmp_path: Path) -> None:
    with open_video(tmp_path / "x", VideoSpec(48, 32, 16, PNGFrames(), metadata=TEXTS)) as video:
        video.write(frames(0, 3))
    sheet = ContactSheet(fps=16)
    sheet.add(to_pictures(frames(0, 3)))
    sheet.save(tmp_path / "sheet.png", TEXTS)
    for name, expected in (
        ("x/frame_000000.png", TEXTS),
        ("x/frame_000001.png", {}),
        ("sheet.png", TEXTS),
    ):
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert {key: picture.info[key] for key in TEXTS if key in picture.info} == expected


def test_h265_has_the_tag_that_apples_players_know(tmp_path: Path) -> None:
    with open_video(tmp_path / "x.mp4", VideoSpec(64, 64, 16, Encoding(H265))) as video:
        video.write(torch.rand(3, 3, 64, 64))
        video.flush()
        tags = [_tag(tmp_path / "x.mp4")]  # while it grows
    assert [*tags, _tag(tmp_path / "x.mp4")] == ["hvc1", "hvc1"]


def _tag(path: Path) -> str:
    with av.open(path) as container:
        return container.streams.video[0].codec_context.codec_tag


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_video_that_is_deleted_while_it_is_written_is_no_success(
    tmp_path: Path, name: str, at_the_end: bool
) -> None:
    """The system goes on taking its bytes, which nobody can read."""
    codec = Encoding(FFV1) if name == "x.mkv" else Encoding()
    folder = tmp_path / "folder"
    video = open_video(folder / name, VideoSpec(48, 32, 16, codec))
    video.write(torch.rand(3, 3, 32, 48))
    video.flush()
    shutil.rmtree(folder)
    with pytest.raises(StorageError, match="was deleted or moved while it was written; run again"):
        if not at_the_end:
            video.write(torch.rand(3, 3, 32, 48))
            video.flush()
        video.close()
    video.close()
    assert not folder.exists()
