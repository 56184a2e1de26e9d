"""What users learn of frames that the preview's store could not keep."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from longtake.stream.preview.messages import TAKE_EVENT, Ending, Origin, Shot, TakeStats
from longtake.stream.preview.takes import Limits, Takes
from longtake.tests.support.numbered_frames import numbered_frames

CHUNKS, FRAMES = 20, 12


def test_a_page_learns_of_lost_frames_while_the_shot_is_made_and_the_log_says_why_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "longtake").write_text("in the way of the folder")
    takes = Takes(lambda: tmp_path, Limits(ram_bytes=20_000))
    told: list[dict[str, Any]] = []
    take = takes.create(
        Shot(16.0, 64, 48, CHUNKS * FRAMES), Origin("7", "7", "p"),
        lambda event, about: told.append(about) if event == TAKE_EVENT else None,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "longtake"):
        for index in range(CHUNKS):
            frames = numbered_frames(index * FRAMES, FRAMES, 64, 48)
            take.show(frames, index * FRAMES, "a red ball", TakeStats())
        take.finish(Ending("done"))
        take.join()
    lost = sum(chunk["count"] for chunk in take.manifest()["chunks"] if not chunk["bytes"])
    [*_, newest, end] = told
    assert newest["state"] == "running" and newest["message"] == end["message"]
    assert "The temp folder cannot be used (" in newest["message"]
    assert newest["message"].endswith(f"{lost} earlier frames can be seen in saved files only.")
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "The preview cannot use its temp folder"
    ]
    takes.reset()
