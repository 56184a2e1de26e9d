"""Threads that help the one that makes a shot compute alone, and change nobody else's number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from longtake.stream.compute_threads import compute_alone, compute_with
from longtake.stream.preview import frame_encoder
from longtake.stream.preview.frame_encoder import FrameEncoder
from longtake.stream.video import writer
from longtake.stream.video.spec import VideoSpec
from longtake.stream.video.writer import open_video
from longtake.tests.support.torch_threads import torch_threads


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    with torch_threads(4):
        yield


def on_a_thread(call: Callable[[], None]) -> int:
    """The number of threads of a new thread after `call`."""
    numbers: list[int] = []

    def work() -> None:
        call()
        numbers.append(torch.get_num_threads())

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    return numbers[0]


def nothing() -> None:
    """Leave the number as it is."""


def test_a_thread_that_computes_alone_changes_no_other() -> None:
    assert on_a_thread(compute_alone) == 1
    assert torch.get_num_threads() == 4
    assert on_a_thread(nothing) == 4, "a later thread has the process's number"
    assert on_a_thread(lambda: compute_with(2)) == 2
    assert on_a_thread(nothing) == 4


def test_previews_and_videos_are_encoded_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: dict[str, int] = {}
    for module in (frame_encoder, writer):
        convert = module.to_pictures

        def note(*arguments: object, convert: Callable[..., object] = convert) -> object:
            numbers[threading.current_thread().name] = torch.get_num_threads()
            return convert(*arguments)

        monkeypatch.setattr(module, "to_pictures", note)
    frames = torch.rand(2, 3, 64, 96)
    preview = FrameEncoder(lambda error: None)
    preview.put(frames, lambda packed: None)
    preview.close(lambda: None)
    with open_video(tmp_path / "clip.mp4", VideoSpec(96, 64, 16)) as video:
        video.write(frames)
    preview.join()
    assert numbers == {"longtake preview": 1, "longtake video": 1}
