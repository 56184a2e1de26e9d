"""Run after Cancel behind an IMAGE or a video file adds to the same file, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from longtake.headless.hosts.stand_in.modules import InterruptProcessingException, VideoFromFile
from longtake.tests.support.clips import write_clip
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.flashvsr import Counter, flashvsr_bench, sharpened

COUNT = 33  # pictures, in pieces of 16, 16 and 1, and passes of 21, 8 and 4
LOSSLESS = "mkv (lossless)"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a small FlashVSR."""
    with flashvsr_bench(tmp_path, monkeypatch) as made:
        yield made


def images(_bench: Bench, _folder: Path) -> Any:
    return torch.rand(COUNT, 32, 32, 3, generator=torch.Generator().manual_seed(3))


def with_alpha(bench: Bench, folder: Path) -> Any:
    """The same pictures with an alpha that changes from run to run, and is dropped."""
    return torch.cat([images(bench, folder), torch.rand(COUNT, 32, 32, 1)], 3)


def of_file(bench: Bench, folder: Path) -> Any:
    path = folder / "x.mkv"
    if not path.exists():
        write_clip(path, COUNT, size=(32, 32), codec="ffv1")
    return bench.run("LongtakeVideoToFrames", video=VideoFromFile(str(path)))[0]


SOURCES = [images, with_alpha, of_file]
Source = Callable[[Bench, Path], Any]


def save(bench: Bench, frames: Any, prefix: str = "clip") -> list[Path]:
    bench.run("LongtakeSaveVideo", frames=frames, format=LOSSLESS, filename_prefix=prefix)
    return sorted(bench.state.folders["output"].rglob(f"{prefix}*.mkv"))


def pictures_in(file: Path) -> np.ndarray:
    with av.open(file) as container:
        return np.stack([x.to_ndarray(format="gbrp") for x in container.decode(video=0)])


@pytest.mark.parametrize("source", SOURCES)
def test_only_the_passes_that_are_missing_are_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Source
) -> None:
    counter = Counter(bench, monkeypatch)
    counter.cancel_after = 2
    with pytest.raises(InterruptProcessingException):
        save(bench, sharpened(bench, source(bench, tmp_path)))
    counter.passes = counter.cancel_after = 0
    [file] = save(bench, sharpened(bench, source(bench, tmp_path)))
    assert counter.passes == 1
    [whole] = save(bench, sharpened(bench, source(bench, tmp_path)), "whole")
    assert np.array_equal(pictures_in(file), pictures_in(whole))
    assert len(pictures_in(file)) == COUNT


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_pictures_have_the_same_addresses(
    bench: Bench, tmp_path: Path, source: Source
) -> None:
    first, again = (sharpened(bench, source(bench, tmp_path)).source for _ in range(2))
    keys = [first.content_key(index) for index in range(3)]
    assert None not in keys and len({*keys}) == 3 and first.content_key(3) is None
    assert [again.content_key(index) for index in (2, 1, 0)] == keys[::-1]
    assert [first.chunk_of(frame) for frame in (0, 15, 16, COUNT - 1)] == [0, 0, 1, 2]


@pytest.mark.parametrize("changed", [0, 20])
def test_one_other_picture_changes_every_address_from_there_on(bench: Bench, changed: int) -> None:
    """A pass is made of all pictures before its last one."""
    pictures = torch.rand(COUNT, 32, 32, 3, generator=torch.Generator().manual_seed(3))
    other = pictures.clone()
    other[changed, 31, 31, 2] += 0.001
    ours, theirs = (
        [sharpened(bench, each).source.content_key(i) for i in range(3)]
        for each in (pictures, other)
    )
    piece = changed // 16
    assert ours[:piece] == theirs[:piece]
    assert not {*ours[piece:]} & {*theirs[piece:]}


def test_pictures_of_another_shape_or_dtype_are_others(bench: Bench) -> None:
    """Their bytes alone would be the same."""
    half = torch.zeros(4, 32, 64, 3, dtype=torch.float16)
    pictures = [half, half.view(4, 64, 32, 3), half.bfloat16()]
    keys = {sharpened(bench, each).source.content_key(0) for each in pictures}
    assert len(keys) == len(pictures)
