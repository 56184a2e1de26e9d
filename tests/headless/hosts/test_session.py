"""An open host for several jobs: what each of them leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from longtake.errors import LongtakeError
from longtake.headless import session as sessions
from longtake.headless.events import FileSaved, RunFiles
from longtake.headless.runner import Job
from longtake.stream.video import whole_notes as notes


@pytest.mark.parametrize("fails", [True, False])
def test_a_whole_video_has_a_note_until_its_run_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The host begins within the block: a core is another process, and has its environment."""
    video = tmp_path / "clip_00001_.mp4"
    video.write_bytes(b"video")

    @contextmanager
    def host(comfy: Any, out: Path, events: Any, **options: Any) -> Iterator[Any]:
        assert notes.VARIABLE in os.environ
        yield events

    def work(events: Any, job: Job) -> None:
        notes.add_note(video, "key", {"longtake_files": []})
        events(FileSaved("video", video))
        if fails:
            raise LongtakeError("The other video has no room.")

    monkeypatch.setattr(sessions, "open_host", host)
    monkeypatch.setattr(sessions, "run_workflow", work)
    with sessions.session(Console(quiet=True), None, tmp_path) as live, suppress(LongtakeError):
        live.run(Job(tmp_path / "w.json", (), tmp_path), RunFiles())
    assert (tmp_path / ".clip_00001_.mp4.whole").exists() == fails
    assert notes.VARIABLE not in os.environ
