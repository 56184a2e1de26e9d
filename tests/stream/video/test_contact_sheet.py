"""Laws of the contact sheet: it shows the whole video in order and keeps no frame."""

import math
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from longtake.errors import StorageError
from longtake.stream.lazy.frame_chunk import Pictures, to_pictures
from longtake.stream.video.contact_sheet import ContactSheet
from longtake.stream.video.spec import VideoSpec
from longtake.stream.video.writer import open_video


def read_picture(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("bits", [8, 10])
def test_a_contact_sheet_keeps_no_pictures_alive(bits: int) -> None:
    sheet = ContactSheet(fps=16, columns=4, rows=2, tile_width=96)
    total, known = 1000, list[weakref.ref[Pictures]]()
    for first in range(0, total, 10):
        level = torch.arange(first, first + 10).div(total).view(10, 1, 1, 1)
        pictures = to_pictures(level.expand(10, 3, 32, 48), bits)
        known.append(weakref.ref(pictures))
        sheet.add(pictures)
        del pictures
    assert not [each for each in known if each() is not None]


def test_pictures_of_more_bits_look_alike() -> None:
    frames = torch.linspace(0, 1, 12 * 3 * 32 * 48).view(12, 3, 32, 48)
    sheets = [ContactSheet(fps=16, tile_width=96) for _ in range(2)]
    for sheet, bits in zip(sheets, (8, 10), strict=True):
        sheet.add(to_pictures(frames, bits))
    usual, wide = ([np.asarray(tile, int) for _, tile in sheet._kept] for sheet in sheets)
    assert np.abs(np.stack(usual) - np.stack(wide)).max() <= 1
    assert np.stack(wide).max() == 255 and len(wide) == 12


def test_a_videos_own_thread_fills_its_sheet(tmp_path: Path) -> None:
    threads = set[str]()

    class Watched(ContactSheet):
        def add(self, pictures: Pictures) -> None:
            threads.add(threading.current_thread().name)
            super().add(pictures)

    spec, sheet = VideoSpec(48, 32, 16), Watched(fps=16)
    with open_video(tmp_path / "clip.mp4", spec, sheet=sheet) as video:
        for count in (9, 12):
            video.write(torch.rand(count, 3, 32, 48))
    assert (sheet.frames, threads) == (21, {"longtake video"})


def test_a_contact_sheet_shows_the_whole_video_in_order(tmp_path: Path) -> None:
    sheet, total = ContactSheet(fps=16, columns=4, rows=2, tile_width=96), 1000
    for first in range(0, total, 10):
        level = torch.arange(first, first + 10).div(total).view(10, 1, 1, 1)
        sheet.add(to_pictures(level.expand(10, 3, 32, 48)))
    sheet.save(tmp_path / "new" / "sheet.png")
    picture = read_picture(tmp_path / "new" / "sheet.png")
    assert picture.shape == (2 * (64 + 4) + 4, 4 * (96 + 4) + 4, 3)
    corners = picture[[[64], [132]], [94, 194, 294, 394], 0].flatten().astype(int)
    steps = np.diff(corners)
    assert corners[0] == 0 and corners[-1] > 0.85 * 255
    assert steps.min() > 0 and steps.max() <= 2 * steps.min()


@pytest.mark.parametrize("parts", [1, 7, 16])
def test_a_sheet_picks_evenly_from_fewer_than_twice_as_many_thumbnails(parts: int) -> None:
    """Compared with the rule, counted anew for each length: 8 tiles, so at most 15 thumbnails."""
    sheet, black = ContactSheet(fps=16, columns=4, rows=2, tile_width=4), np.zeros((parts, 4, 4, 3))
    for total in range(parts, 500, parts):
        sheet.add(black.astype(np.uint8))
        stride = next(2**n for n in range(20) if len(range(0, total, 2**n)) < 16)
        kept = [*range(0, total, stride)]
        assert [number for number, _ in sheet._kept] == kept
        evenly = [kept[math.floor(place * (len(kept) - 1) / 7)] for place in range(8)]
        assert [number for number, _ in sheet._pick()] == (kept if len(kept) <= 8 else evenly)


def test_times_leave_the_upper_half_to_the_videos_own_labels(tmp_path: Path) -> None:
    sheet = ContactSheet(fps=16, columns=2, rows=1, tile_width=96)
    sheet.add(to_pictures(torch.full((2, 3, 64, 96), 0.5)))
    sheet.save(tmp_path / "sheet.png")
    picture = read_picture(tmp_path / "sheet.png")[4:68, 4:100]
    assert (picture[:32] == picture[0, 0]).all() and picture[32:].max() > 200


@pytest.mark.parametrize("total", [1, 3, 8, 9, 15, 16, 17])
def test_a_contact_sheet_of_a_short_video(tmp_path: Path, total: int) -> None:
    sheet = ContactSheet(fps=16, columns=4, rows=2, tile_width=32)
    sheet.add(to_pictures(torch.rand(total, 3, 8, 16)))
    sheet.save(tmp_path / "sheet.png")
    rows, columns = -(-min(total, 8) // 4), min(total, 4)
    assert read_picture(tmp_path / "sheet.png").shape == (rows * 20 + 4, columns * 36 + 4, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_contact_sheet_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sheet = ContactSheet(fps=16)
    with pytest.raises(ValueError, match="at least one frame"):
        sheet.save(tmp_path / "sheet.png")
    sheet.add(to_pictures(torch.rand(1, 3, 8, 16)))
    with pytest.raises(StorageError, match="sheet.png cannot be written"):
        sheet.save(tmp_path / "file" / "sheet.png")


@pytest.mark.parametrize(("height", "width"), [(4096, 8), (8, 4096), (600, 100)])
def test_tiles_are_small_whatever_the_shape_of_the_frames(
    tmp_path: Path, height: int, width: int
) -> None:
    sheet = ContactSheet(fps=16, columns=2, rows=2, tile_width=96)
    sheet.add(to_pictures(torch.rand(5, 3, height, width)))
    sheet.save(tmp_path / "sheet.png")
    rows, columns, _ = read_picture(tmp_path / "sheet.png").shape
    assert columns <= 2 * (96 + 4) + 4 and rows <= 2 * (192 + 4) + 4
