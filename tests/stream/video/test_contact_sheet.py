"""Laws of the contact sheet: it shows the whole video in order and keeps no frame."""

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from longtake.errors import StorageError
from longtake.stream.video.contact_sheet import ContactSheet


def read_picture(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_contact_sheet_keeps_no_frame_alive() -> None:
    sheet = ContactSheet(fps=16, columns=4, rows=2, tile_width=96)
    total, alive = 1000, weakref.WeakSet[Tensor]()
    for first in range(0, total, 10):
        level = torch.arange(first, first + 10).div(total).view(10, 1, 1, 1)
        chunk = level.expand(10, 3, 32, 48)
        alive.add(chunk)
        sheet.add(chunk)
        del chunk
    assert len(alive) == 0


def test_a_contact_sheet_shows_the_whole_video_in_order(tmp_path: Path) -> None:
    sheet, total = ContactSheet(fps=16, columns=4, rows=2, tile_width=96), 1000
    for first in range(0, total, 10):
        level = torch.arange(first, first + 10).div(total).view(10, 1, 1, 1)
        sheet.add(level.expand(10, 3, 32, 48))
    sheet.save(tmp_path / "new" / "sheet.png")
    picture = read_picture(tmp_path / "new" / "sheet.png")
    assert picture.shape == (2 * (64 + 4) + 4, 4 * (96 + 4) + 4, 3)
    corners = picture[[[64], [132]], [94, 194, 294, 394], 0].flatten().astype(int)
    steps = np.diff(corners)
    assert corners[0] == 0 and corners[-1] > 0.85 * 255
    assert steps.min() > 0 and steps.max() <= 2 * steps.min()


def test_times_leave_the_upper_half_to_the_videos_own_labels(tmp_path: Path) -> None:
    sheet = ContactSheet(fps=16, columns=2, rows=1, tile_width=96)
    sheet.add(torch.full((2, 3, 64, 96), 0.5))
    sheet.save(tmp_path / "sheet.png")
    picture = read_picture(tmp_path / "sheet.png")[4:68, 4:100]
    assert (picture[:32] == picture[0, 0]).all() and picture[32:].max() > 200


@pytest.mark.parametrize("total", [1, 3, 8, 9, 15, 16, 17])
def test_a_contact_sheet_of_a_short_video(tmp_path: Path, total: int) -> None:
    sheet = ContactSheet(fps=16, columns=4, rows=2, tile_width=32)
    sheet.add(torch.rand(total, 3, 8, 16))
    sheet.save(tmp_path / "sheet.png")
    rows, columns = -(-min(total, 8) // 4), min(total, 4)
    assert read_picture(tmp_path / "sheet.png").shape == (rows * 20 + 4, columns * 36 + 4, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_contact_sheet_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sheet = ContactSheet(fps=16)
    with pytest.raises(ValueError, match="at least one frame"):
        sheet.save(tmp_path / "sheet.png")
    sheet.add(torch.rand(1, 3, 8, 16))
    with pytest.raises(StorageError, match="sheet.png cannot be written"):
        sheet.save(tmp_path / "file" / "sheet.png")


@pytest.mark.parametrize(("height", "width"), [(4096, 8), (8, 4096), (600, 100)])
def test_tiles_are_small_whatever_the_shape_of_the_frames(
    tmp_path: Path, height: int, width: int
) -> None:
    sheet = ContactSheet(fps=16, columns=2, rows=2, tile_width=96)
    sheet.add(torch.rand(5, 3, height, width))
    sheet.save(tmp_path / "sheet.png")
    rows, columns, _ = read_picture(tmp_path / "sheet.png").shape
    assert columns <= 2 * (96 + 4) + 4 and rows <= 2 * (192 + 4) + 4
