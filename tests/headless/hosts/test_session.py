"""An open host for several jobs: what each of them leaves behind."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from longtake.errors import LongtakeError
from longtake.headless import session as sessions
from longtake.headless.events import FileSaved, RunFiles
from longtake.headless.hosts.stand_in import StandInHost, executor, host_modules
from longtake.headless.runner import Job
from longtake.headless.workflow.graph import Workflow
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


def test_a_row_is_made_without_the_models_of_the_row_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row loads its own, and parts of a model refer to each other."""

    class Model:
        pass

    models: list[weakref.ref[Model]] = []

    def execute(*_: Any) -> None:
        assert not [model for model in models if model() is not None]
        model: Any = Model()
        model.part = SimpleNamespace(model=model)
        models.append(weakref.ref(model))

    monkeypatch.setattr(executor, "execute", execute)
    monkeypatch.setattr(executor, "_node_table", lambda *_: {})
    monkeypatch.setattr(executor, "_session", lambda: SimpleNamespace(settle_store=list))
    gc.disable()
    try:
        with host_modules(tmp_path, print) as state:
            host = StandInHost(state, SimpleNamespace())
            for _ in range(3):
                host.run(Workflow("w.json", {}), tmp_path)
    finally:
        gc.enable()
    assert len(models) == 3
