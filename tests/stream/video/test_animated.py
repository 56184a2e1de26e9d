"""Laws of animated pictures, read back by pillow: every frame, its time, nothing half-written."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from longtake.errors import StorageError
from longtake.stream.video.animated import ENCODERS
from longtake.stream.video.spec import AnimatedPicture, VideoSpec
from longtake.stream.video.writer import open_video
from longtake.tests.support.stream.small_disk import small_disk

Kind = Literal["gif", "webp"]
KINDS: list[Kind] = ["gif", "webp"]


def pictures(first: int, count: int) -> torch.Tensor:
    """A ramp of colours, and a bright square that moves a pixel a frame."""
    frames = torch.zeros(count, 3, 33, 47)
    frames[:, 1] = torch.linspace(0, 1, 47)
    for place in range(count):
        frames[place, 0, 4:12, first + place : first + place + 8] = 1
    return frames


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_shown_for_its_time(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / f"x.{kind}"
    spec = VideoSpec(47, 33, 12.5, AnimatedPicture(kind))
    with open_video(path, spec) as video:
        for first, count in ((0, 9), (9, 12), (21, 1), (22, 12)):
            video.write(pictures(first, count))
        video.flush()
        assert not path.exists()  # complete only at its end
    assert [*tmp_path.iterdir()] == [path] and path.stat().st_size == video.bytes_written
    with Image.open(path) as picture:
        assert picture.info["loop"] == 0
        shown, times = [], []
        for frame in ImageSequence.Iterator(picture):
            shown.append(np.asarray(frame.convert("RGB")).astype(int))
            times.append(frame.info["duration"])
    assert set(times) == {80}
    expected = pictures(0, 34).mul(255).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(np.stack(shown) - expected).mean() < 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_picture_holds_what_was_made_and_an_empty_one_is_no_file(
    tmp_path: Path, kind: Kind
) -> None:
    path, spec = tmp_path / f"x.{kind}", VideoSpec(47, 33, 16, AnimatedPicture(kind))
    open_video(path, spec).close()
    assert not [*tmp_path.iterdir()]
    video = open_video(path, spec)
    video.write(pictures(0, 5))
    video.close(complete=False)
    with Image.open(path) as picture:
        assert sum(1 for _ in ImageSequence.Iterator(picture)) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_an_unwritable_folder_is_one_sentence(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "file").touch()
    spec = VideoSpec(47, 33, 16, AnimatedPicture(kind))
    with pytest.raises(StorageError, match="cannot be written.*choose another folder"):
        open_video(tmp_path / "file" / "x", spec)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_cannot_begin_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setitem(ENCODERS, kind, (ENCODERS[kind][0], "no such pixels"))
    with pytest.raises(ValueError, match="no such pixels"):
        open_video(tmp_path / f"x.{kind}", VideoSpec(47, 33, 16, AnimatedPicture(kind)))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path, kind: Kind) -> None:
    """FFmpeg writes these files itself, and so meets the disk first."""
    noise = torch.rand(60, 3, 33, 47, generator=torch.Generator().manual_seed(1))
    with small_disk(tmp_path / "disk", "32k") as folder:
        path = folder / f"x.{kind}"
        with (
            pytest.raises(StorageError, match=rf"{kind} cannot be written .*free some space"),
            open_video(path, VideoSpec(47, 33, 12.5, AnimatedPicture(kind))) as video,
        ):
            video.write(noise)
        assert [*folder.iterdir()] == []
