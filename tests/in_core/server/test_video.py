"""A video file through the real core: its Load Video, our stream, and the file's own sound."""

from __future__ import annotations

import numpy as np
import pytest

from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.graphs import node
from longtake.tests.in_core.support.outputs import frame_count, saved
from longtake.tests.support.clips import beeps, heard, write_clip

RATE, SECONDS = 48000, 3


@pytest.mark.parametrize("format", ["mp4 (h264)", "mkv (lossless)"])
def test_a_file_goes_through_with_its_sound(client: Client, format: str) -> None:
    write_clip(client.base / "input" / "given.mkv", 16 * SECONDS, size=(96, 64),
               sound=beeps(SECONDS, RATE), codec="ffv1")  # fmt: skip
    workflow = {
        "1": node("LoadVideo", file="given.mkv"),
        "2": node("LongtakeVideoToFrames", video=["1", 0], fps=16.0, width=0, height=0, start=0.5,
                  length=2.0),
        "3": node("LongtakeSaveVideo", frames=["2", 0], filename_prefix="longtake/given",
                  format=format, crf=18, sheet_and_report=True, audio=["2", 1]),
        "4": node("LongtakePreview", frames=["2", 0]),
        "5": node("SaveAudio", audio=["2", 1], filename_prefix="given"),
    }  # fmt: skip
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    path = saved(client, run, "3")
    assert frame_count(path) == 32
    sound, given = heard(path), beeps(SECONDS, RATE)[:, RATE // 2 : RATE * 5 // 2]
    assert abs(sound.shape[1] - 2 * RATE) < 1024
    error = sound[:, : 2 * RATE] - given[:, : sound.shape[1]]
    assert (error**2).mean() < 1e-2 * (given**2).mean()
    [audio] = run.outputs["5"]["audio"]  # another node's, which takes it whole
    other = heard(client.base / "output" / audio["subfolder"] / audio["filename"])
    assert other.shape == given.shape and np.abs(other - given).max() < 1e-3
