"""Save Video (Stream) under the stand-in host: names, and the workflow inside the files."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from longtake.errors import BadInput
from longtake.headless.events import ChunkDone, Event, FileSaved
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.stream.timecode import time_label
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


@pytest.mark.parametrize("node", ["LongtakeSaveVideo", "LongtakeSaveRollout"])
@pytest.mark.parametrize("token", ["%date:yyyy-MM-dd%", "%Prompt Timeline.text%", None])
def test_a_token_that_only_the_page_replaces_is_told_of(
    bench: Bench, caplog: pytest.LogCaptureFixture, node: str, token: str | None
) -> None:
    """`longtake run` and other clients of a server have no page."""
    prefix = f"day/{token}" if token else "50%/v1.5/100%-%day%-%other%"
    rollout, vae = bench.rollout()
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    made = {"frames": frames} if node == "LongtakeSaveVideo" else {"rollout": rollout}
    bench.run(node, **made, filename_prefix=prefix)
    told = [text for text in caplog.messages if "only ComfyUI's page replaces" in text]
    assert len(told) == (token is not None)
    assert token is None or told[0].startswith(f"filename_prefix keeps '{token}' as it is")
    assert not told or "; %year%, %month% and %day% work everywhere." in told[0]


@pytest.mark.parametrize(
    ("prefix", "wrong"),
    [("clip 1:2", ":"), ("CON/clip", "CON"), ("a/aux.old/x", "aux.old"), ("a./clip", "a."),
     ("a /clip", "a "), ("a\\nul\\clip", "nul"), ("nul.x", "nul.x")],
)  # fmt: skip
def test_a_name_that_windows_cannot_have_is_refused_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, prefix: str, wrong: str
) -> None:
    """Workflows travel: on Linux such a name is as good as any."""
    pictures = torch.zeros(1, 16, 16, 3)
    bench.run("LongtakeSaveVideo", frames=pictures, filename_prefix=prefix)
    in_use = sys.modules["longtake.nodes.host.paths"]  # each stand-in loads the nodes anew
    monkeypatch.setattr(in_use, "sys", SimpleNamespace(platform="win32"))
    for fits in ("con", "a/../clip.", "./console/aux1 "):
        in_use.check_prefix(fits)
    with pytest.raises(BadInput) as refusal:
        bench.run("LongtakeSaveVideo", frames=pictures, filename_prefix=prefix)
    assert f"has {wrong!r}, which no file's name has on Windows; use a name" in str(refusal.value)


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
    after = {path for path in tmp_path.rglob("*") if path.parent.name != ".rollouts"}
    assert after <= before


def cancelled(bench: Bench, frames: Any, chunk: int, *others: str, **inputs: Any) -> Path:
    """The file of a run that Cancel ended when a chunk was done."""
    tell = bench.state.listener

    def listen(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == chunk:
            bench.state.listener = tell
            bench.state.interrupt()

    bench.state.listener = listen
    with pytest.raises(InterruptProcessingException):
        save(bench, frames, *others, **inputs)
    bench.state.start_prompt()
    return [e.path for e in bench.events if isinstance(e, FileSaved)][-1]


def save(bench: Bench, frames: Any, *others: str, **inputs: Any) -> dict[str, Path]:
    """Save a stream beside other outputs; the files by their roles."""
    bench.events.clear()
    calls = [(other, {"frames": frames}) for other in others]
    asyncio.run(bench.side_by_side(("LongtakeSaveVideo", {"frames": frames, **inputs}), *calls))
    return saved(bench)


def decoded(path: Path) -> list[Any]:
    if path.is_dir():
        return [np.asarray(Image.open(file)) for file in sorted(path.iterdir())]
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.each_value
@pytest.mark.parametrize("format", ["mp4 (h264)", "mkv (lossless)", "png frames"])
@pytest.mark.parametrize("others", [(), ("LongtakePreview",)])
def test_a_resumed_run_adds_to_the_file_and_decodes_only_what_it_lacks(
    bench: Bench, caplog: pytest.LogCaptureFixture, format: str, others: tuple[str, ...]
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    whole = save(bench, bench.frames(length=69.0), format=format, filename_prefix="whole/x")
    for chunk_file in (bench.state.folders["output"] / "longtake").rglob("*.safetensors"):
        chunk_file.unlink()
    bench.state.start_prompt()
    frames = bench.frames(length=69.0)
    cut = cancelled(bench, frames, 3, *others, format=format, filename_prefix="parts/x")
    count = len(decoded(cut))
    assert 0 < count < 69
    frames = bench.frames(length=69.0)
    fed: list[int] = []
    open_decoder = frames.open_decoder

    def open_counted() -> Any:
        decoder = open_decoder()
        feed = decoder.feed
        decoder.feed = lambda latents: (fed.append(len(latents)), feed(latents))[1]
        return decoder

    frames.open_decoder = open_counted
    files = save(bench, frames, *others, format=format, filename_prefix="parts/x")
    video = files["frames" if format == "png frames" else "video"]
    assert video == cut and f"{video.name} has {count} frames already" in caplog.text
    assert f"Resuming at {time_label(count / 16)}" in caplog.text
    pairs = zip(
        decoded(video), decoded(whole["frames" if video.is_dir() else "video"]), strict=True
    )
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert frames.report([]).frames == 69 and frames.report([]).latent_frames == 18
    if not others:  # the preview has lost the frames of the earlier run
        assert sum(fed) < 18
    names = sorted(path.name for path in video.parent.iterdir())
    assert names == sorted(path.name for path in whole["report"].parent.iterdir())
    with Image.open(files["contact_sheet"]) as a, Image.open(whole["contact_sheet"]) as b:
        assert a.size == b.size


def test_another_shot_begins_another_file(bench: Bench) -> None:
    cut = cancelled(bench, bench.frames(), 1)
    before = cut.read_bytes()
    other = save(bench, bench.frames(seed=5))["video"]
    assert (cut.name, other.name) == ("clip_00001_.mp4", "clip_00002_.mp4")
    assert cut.read_bytes() == before and len(decoded(other)) == 33
    assert save(bench, bench.frames())["video"] == cut and len(decoded(cut)) == 33
    again = save(bench, bench.frames())["video"]  # nothing is unfinished any more
    assert again.name == "clip_00003_.mp4"


def test_a_file_with_a_live_edit_is_not_cut_by_the_run_without_it(bench: Bench) -> None:
    frames = bench.frames(length=69.0)
    frames.controls.set_prompt("ball")
    cut = cancelled(bench, frames, 2)
    before = cut.read_bytes()
    assert save(bench, bench.frames(length=69.0))["video"] != cut
    assert cut.read_bytes() == before


def test_a_live_edit_waits_until_the_file_of_an_earlier_run_ends(bench: Bench) -> None:
    """An edit before would make other pictures than those that the file has."""
    cut = cancelled(bench, bench.frames(length=69.0), 2)
    [log] = cut.parent.glob(".*.pieces")
    before = log.read_text().splitlines()[1:]
    frames = bench.frames(length=69.0)
    frames.controls.set_prompt("ball")
    assert save(bench, frames)["video"] == cut
    [edit] = frames.controls.edits
    assert edit.status == "applied"
    assert edit.first_frame >= json.loads(before[-1])["frames"] > 0


def test_a_longer_shot_adds_to_the_file_of_a_shorter_one(bench: Bench) -> None:
    cut = cancelled(bench, bench.frames(), 1)
    longer = save(bench, bench.frames(length=45.0))["video"]
    assert longer == cut and len(decoded(longer)) == 45


def test_a_file_that_is_written_holds_no_pictures(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run counts the file's bytes, and a host may keep the run."""
    from longtake.stream.video import writer

    convert, held = writer.to_pictures, list[weakref.ref[Any]]()

    def note(*arguments: Any) -> Any:
        chunk = convert(*arguments)
        held.append(weakref.ref(chunk))
        return chunk

    monkeypatch.setattr(writer, "to_pictures", note)
    frames = bench.frames()
    bench.run("LongtakeSaveVideo", frames=frames)
    gc.collect()
    assert len(held) == 3 and all(chunk() is None for chunk in held)
    [size] = [size() for size in frames.rollout.run.disk.files]
    [path] = bench.state.folders["output"].rglob("*.mp4")
    assert size == path.stat().st_size


@pytest.mark.parametrize(
    ("format", "size"), [("mp4 (h264)", (48, 34)), ("mkv (lossless)", (47, 33))]
)
def test_the_report_has_the_files_size(
    bench: Bench, caplog: pytest.LogCaptureFixture, format: str, size: tuple[int, int]
) -> None:
    bench.run("LongtakeSaveVideo", frames=torch.rand(2, 33, 47, 3), format=format)
    files = saved(bench)
    report = json.loads(files["report"].read_text())
    with av.open(files["video"]) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == size == (report["width"], report["height"])
    told = "The frames are 47 x 33 pixels and the file has 48 x 34" in caplog.text
    assert told == (size != (47, 33))


def test_the_report_has_the_frames_and_the_rate_of_the_file(bench: Bench) -> None:
    bench.run("LongtakeSaveVideo", frames=bench.frames(), fps=32.0)
    files = saved(bench)
    report = json.loads(files["report"].read_text())
    assert (report["frames"], report["fps_target"]) == (len(decoded(files["video"])), 32.0)
    assert report["frames"] == 2 * 33


@pytest.mark.parametrize("refused", ["sheet.png", "report.json"])
def test_a_disk_that_is_full_at_the_end_costs_no_finished_video(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: str
) -> None:
    """An error would let the next run write all of the video again."""
    import longtake.machine.temporary_files as temporary_files

    put_in_place = temporary_files.put_in_place

    def fill(temporary: Path, path: Path) -> None:
        if path.name.endswith(refused):
            raise OSError(28, "No space left on device")
        put_in_place(temporary, path)

    monkeypatch.setattr(temporary_files, "put_in_place", fill)
    shown = bench.shown("LongtakeSaveVideo", frames=bench.frames())
    [entry] = shown["images"]
    video = bench.state.folders["output"] / entry["subfolder"] / entry["filename"]
    assert len(decoded(video)) == 33
    roles = [entry["role"] for entry in shown["longtake_files"]]
    assert roles == (["report"] if refused == "sheet.png" else [])
    named = json.loads(shown["longtake_report"][0])["output_files"]
    assert len(named) == 1 + len(roles) and all(Path(path).exists() for path in named)
    reports = [Path(path) for path in named if path.endswith("report.json")]
    assert [json.loads(path.read_text())["output_files"] for path in reports] == [named] * len(
        roles
    )
    [told] = [text for text in caplog.messages if "No space left" in text]
    assert refused in told and told.endswith(f" The video {video} is complete.")
