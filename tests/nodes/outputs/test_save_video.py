"""Save Video (Stream) under the stand-in host: names, and the workflow inside the files."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import av
import pytest
from PIL import Image

from longtake.errors import BadInput
from longtake.headless.events import FileSaved
from longtake.tests.support.node_bench import Bench

PROMPT = {"8": {"class_type": "LongtakeSaveVideo", "inputs": {"crf": 18}}}
CANVAS = {"workflow": {"nodes": [{"id": 8, "title": "Größe"}]}, "extra": {"ds": 1}}
EXPECTED = {
    "prompt": json.dumps(PROMPT),
    "workflow": json.dumps(CANVAS["workflow"]),
    "extra": json.dumps(CANVAS["extra"]),
}


def saved(bench: Bench) -> dict[str, Path]:
    return {e.role: e.path for e in bench.events if isinstance(e, FileSaved)}


def texts(path: Path) -> dict[str, str]:
    """The texts of a video or a picture that begin with a brace, by key."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
            return {key: text for key, text in picture.info.items() if isinstance(text, str)}
    with av.open(path) as container:
        return {key.lower(): text for key, text in container.metadata.items() if text[:1] == "{"}


@pytest.mark.parametrize("format", ["mp4 (h264)", "mkv (lossless)", "png frames"])
def test_every_file_names_its_workflow_as_the_hosts_own_do(bench: Bench, format: str) -> None:
    bench.prompt, bench.canvas = PROMPT, CANVAS
    bench.run("LongtakeSaveVideo", frames=bench.frames(), format=format)
    files = saved(bench)
    if format == "png frames":
        files["video"] = files.pop("frames") / "frame_000000.png"
    assert texts(files["video"]) == EXPECTED
    assert texts(files["contact_sheet"]) == EXPECTED


def test_no_file_names_its_workflow_with_disable_metadata(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prompt, bench.canvas = PROMPT, CANVAS
    monkeypatch.setattr(sys.modules["comfy.cli_args"].args, "disable_metadata", True)
    bench.run("LongtakeSaveVideo", frames=bench.frames())
    files = saved(bench)
    assert texts(files["video"]) == {} == texts(files["contact_sheet"])
    assert b"LongtakeSaveVideo" not in files["video"].read_bytes()


def test_a_workflow_without_a_canvas_has_its_prompt_only(bench: Bench) -> None:
    bench.prompt, bench.canvas = PROMPT, {}
    bench.run("LongtakeSaveVideo", frames=bench.frames())
    assert texts(saved(bench)["video"]) == {"prompt": EXPECTED["prompt"]}


def test_names_are_filled_in_as_by_the_core(bench: Bench) -> None:
    prefix = "%year%/%width%x%height%-%month%%day%-%other%"
    bench.run("LongtakeSaveVideo", frames=bench.frames(width=48), filename_prefix=prefix)
    now = time.localtime()
    name = f"48x32-{now.tm_mon:02}{now.tm_mday:02}-%other%_00001_.mp4"
    path = saved(bench)["video"]
    assert (path.name, path.parent.name) == (name, str(now.tm_year))


def test_a_saved_rollout_is_named_by_its_size_too(bench: Bench) -> None:
    rollout, _ = bench.rollout(width=48)
    shown = bench.shown("LongtakeSaveRollout", rollout=rollout, filename_prefix="%width%x%height%")
    [entry] = shown["longtake_files"]
    assert entry["filename"].startswith("48x32_00001_")


@pytest.mark.parametrize("format", ["mp4 (h264)", "mkv (lossless)", "png frames"])
def test_a_second_run_of_a_shot_writes_nothing(bench: Bench, tmp_path: Path, format: str) -> None:
    """It has the chunks that the first run finished, but must not make a clip of these."""
    rollout, vae = bench.rollout()
    next(iter(rollout.chunks))
    before = {path for path in tmp_path.rglob("*") if "longtake_state" not in path.name}
    with rollout.spec.journal.lock(rollout.id), pytest.raises(BadInput) as refusal:
        again, _ = bench.rollout()
        [frames] = bench.run("LongtakeVAEDecode", rollout=again, vae=vae)
        bench.run("LongtakeSaveVideo", frames=frames, format=format)
    assert "is already running in process" in str(refusal.value)
    after = {path for path in tmp_path.rglob("*") if path.parent.name != "rollouts"}
    assert after <= before
