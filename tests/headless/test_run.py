"""The stand-in host and the command line, with the counting pack in place of our nodes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from longtake.errors import BadInput, LongtakeError
from longtake.headless import cli
from longtake.headless.batch.record import Records
from longtake.headless.events import BarMoved, ChunkDone, Event, FileSaved, RunFiles
from longtake.headless.hosts import stand_in
from longtake.headless.hosts.stand_in.folders import get_save_image_path
from longtake.headless.runner import Job, run_workflow
from longtake.headless.workflow.overrides import Override

ROOT = Path(__file__).resolve().parents[2]
PACK = Path(__file__).parents[1] / "counting_pack"


def counting_extension() -> Any:
    """Import the counting pack again, so that it uses the current host modules."""
    for name in ("counting_pack", "counting_pack.nodes"):
        sys.modules.pop(name, None)
    spec = importlib.util.spec_from_file_location("counting_pack", PACK / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["counting_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return asyncio.run(module.comfy_entrypoint())


@pytest.fixture(autouse=True)
def _counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "our_extension", counting_extension)
    monkeypatch.delenv("COMFYUI_PATH", raising=False)


def workflow(folder: Path, *, watch: bool = False, **inputs: object) -> Path:
    source = {"steps": 3, "pause_s": 0.0, "name": "count", "loud": False, "kind": "up", **inputs}
    content: dict[str, object] = {
        "1": {"class_type": "CountUp", "inputs": source},
        "2": {
            "class_type": "CountSave",
            "inputs": {"counter": ["1", 0], "filename_prefix": "sub/count"},
        },
    }
    if watch:
        content["3"] = {"class_type": "CountWatch", "inputs": {"counter": ["1", 0]}}
    path = folder / "counting.json"
    path.write_text(json.dumps(content))
    return path


def run_here(path: Path, out: Path) -> tuple[RunFiles, list[Event]]:
    made, events = RunFiles(), list[Event]()

    def listen(event: Event) -> None:
        events.append(event)
        made.add(event)

    with stand_in.host_modules(out, listen) as state:
        run_workflow(stand_in.StandInHost(state, counting_extension()), Job(path, (), out))
    return made, events


def test_a_node_without_output_blocks_the_nodes_after_it(tmp_path: Path) -> None:
    """As in the core, there is no file and no error, whichever nodes follow."""
    made, events = run_here(workflow(tmp_path, watch=True, name="nothing"), tmp_path / "out")
    assert made.files == [] and not any(isinstance(event, BarMoved) for event in events)


def test_what_a_node_refuses_is_told_before_any_node_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = workflow(tmp_path, watch=True)
    content = json.loads(path.read_text())
    content["2"]["inputs"]["filename_prefix"] = "odd"
    path.write_text(json.dumps(content))
    with (
        caplog.at_level("INFO"),
        pytest.raises(BadInput, match=r"^Node 2 \(CountSave\): odd is no"),
    ):
        run_here(path, tmp_path)
    assert "counting" not in caplog.text


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(one) for one in arguments])


def test_events_come_in_order_and_name_the_files(tmp_path: Path) -> None:
    made, events = run_here(workflow(tmp_path), tmp_path)
    assert [one.chunk for one in events if isinstance(one, ChunkDone)] == [0, 1, 2]
    assert [one.done for one in events if isinstance(one, BarMoved)] == [1, 2, 3]
    video, report = tmp_path / "sub" / "count_00001_.txt", tmp_path / "sub" / "count_00001_.json"
    assert made.files == [FileSaved("video", video), FileSaved("report", report)]
    assert video.read_text().split() == ["1", "2", "3"]


def test_async_outputs_of_one_source_advance_together(tmp_path: Path) -> None:
    path = workflow(tmp_path, watch=True, steps=4, pause_s=0.02)
    content = json.loads(path.read_text())
    content["2"]["inputs"]["filename_prefix"] = "count"
    path.write_text(json.dumps(content))
    run_here(path, tmp_path)
    seen = json.loads((tmp_path / "watch.json").read_text())
    assert seen == sorted(seen) and seen[0] < 4


def test_the_fakes_are_gone_afterwards_and_never_shadow_a_real_host(tmp_path: Path) -> None:
    run_here(workflow(tmp_path), tmp_path)
    assert "comfy" not in sys.modules and "folder_paths" not in sys.modules
    with stand_in.host_modules(tmp_path, print), pytest.raises(BadInput, match="already loaded"):
        stand_in.host_modules(tmp_path, print).__enter__()


def test_an_exception_in_a_node_names_the_node(tmp_path: Path) -> None:
    with pytest.raises(LongtakeError, match=r"Node 1 \(CountUp\) failed with ValueError: a bug"):
        run_here(workflow(tmp_path, name="broken"), tmp_path)


def test_file_numbers_continue_and_a_prefix_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "clip_00007_.mp4").write_bytes(b"")
    (tmp_path / "clip_notes.txt").write_bytes(b"")
    folder, name, number, subfolder, _ = get_save_image_path("clip", str(tmp_path))
    assert (folder, name, number, subfolder) == (str(tmp_path), "clip", 8, "")
    with pytest.raises(BadInput, match="leaves the folder"):
        get_save_image_path("../clip", str(tmp_path))


@pytest.mark.parametrize(
    ("prefix", "names", "number"),
    [
        ("clip [red]", ["clip [red]_00001_.mp4"], 2),
        ("a*b?", [], 1),
        ("clip", ["clip_2x_00009_.mp4", "clip_00001_sheet.png", "clip_².mp4"], 2),
        ("clip", ["clip_00003.png", "clip_00004", "clipper_00008_.mp4", "clip_5s.mp4"], 5),
    ],
)
def test_a_file_never_takes_the_number_of_another(
    tmp_path: Path, prefix: str, names: list[str], number: int
) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert get_save_image_path(prefix, str(tmp_path))[2] == number


def test_run_prints_the_files_and_exits_0(tmp_path: Path) -> None:
    report = tmp_path / "deep" / "report.json"
    result = invoke(
        "run", workflow(tmp_path), "--out", tmp_path / "o", "--report", report, "--set", "1.steps=5"
    )
    assert result.exit_code == 0, result.output
    assert f"video          {tmp_path / 'o' / 'sub' / 'count_00001_.txt'}" in result.output
    assert "counting count" in result.output  # what the pack logs
    assert json.loads(report.read_text()) == {"frames": 5}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (Path.mkdir, "is a folder; name a file"),
        (Path.touch, "Cannot write into the folder"),
    ],
)
def test_a_report_that_cannot_be_written_is_told_before_the_run(
    tmp_path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    make(tmp_path / "r")
    report = tmp_path / "r" if make is Path.mkdir else tmp_path / "r" / "report.json"
    result = invoke("run", workflow(tmp_path), "--out", tmp_path / "o", "--report", report)
    assert result.exit_code == 1 and sentence in result.output
    assert "--report" in result.output and "internal error" not in result.output
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("name", "code"), [("r.json", 1), ("o/sub/count_00001_.json", 0)])
def test_a_report_that_can_no_longer_be_written_leaves_the_runs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    def refuse(target: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli, "write_whole", refuse)
    report, own = tmp_path / name, tmp_path / "o" / "sub" / "count_00001_.json"
    result = invoke("run", workflow(tmp_path), "--out", tmp_path / "o", "--report", report)
    assert result.exit_code == code and own.exists()
    told = f"{report} cannot be written (No space left on device); the run is done, and its report"
    assert (f"--report {told} is {own}." in result.output) == (code == 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--set", "1.name=broken"), "Node 1 (CountUp) failed with ValueError: a bug"),
        (("--comfy", "nowhere"), "--comfy nowhere is not a ComfyUI checkout"),
        (("--out", __file__), "Cannot write into the folder"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = invoke("run", workflow(tmp_path), "--out", tmp_path / "o", *arguments)
    assert result.exit_code == 1
    assert sentence in result.output and "Traceback" not in result.output


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    result = invoke("run", workflow(tmp_path, name="broken"), "--out", tmp_path, "--debug")
    assert result.exit_code == 1 and "Traceback" in result.output and "nodes.py" in result.output


def test_wrong_usage_is_exit_code_2() -> None:
    assert invoke("run").exit_code == 2
    assert invoke("run", "w.json", "--frames", "3").exit_code == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("1.steps=0", "--set 1.steps=0: must be at least 1; got 0."),
        ("1.steps=abc", "--set 1.steps=abc: must be a number; got 'abc'."),
        ("9.steps=1", ": no node is called '9'"),
        ("1.stride=1", "has no input 'stride', only"),
    ],
)
def test_a_value_that_no_node_takes_is_wrong_usage(
    tmp_path: Path, change: str, sentence: str
) -> None:
    """Of `run` and of `batch`, with one such value or several."""
    arguments = (workflow(tmp_path), "--out", tmp_path / "o", "--set", change)
    for command in (("run",), ("batch",), ("batch", "--set", "1.steps=3")):
        result = invoke(*command, *arguments)
        assert result.exit_code == 2 and sentence in result.output, result.output
        assert "Usage:" in result.output


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (("1.steps=2", "1.steps=3"), "1.steps two values"),
        (("1.steps=2", "1.name=a", "CountUp.steps=3"), "1.steps and CountUp.steps two values"),
    ],
)
def test_a_run_takes_one_value_for_an_input(
    tmp_path: Path, changes: tuple[str, ...], names: str
) -> None:
    options = [word for change in changes for word in ("--set", change)]
    result = invoke("run", workflow(tmp_path), "--out", tmp_path / "o", *options)
    assert result.exit_code == 2 and f"--set gives {names}" in result.output
    assert not (tmp_path / "o").exists()


def test_foreign_nodes_are_rejected_by_name(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"1": {"class_type": "KSampler", "inputs": {}}}))
    result = invoke("run", path, "--out", tmp_path)
    assert result.exit_code == 1
    assert (
        "Node 1: 'KSampler' is not a known node type" in result.output
        and "--comfy DIR" in result.output
    )


def test_a_job_is_named_in_one_line_whatever_its_prompt_holds(tmp_path: Path) -> None:
    changed = Override("2", "text", "0: a ball\n5: a box")
    assert str(Job(Path("W.json"), (changed,), tmp_path)).endswith("=0: a ball / 5: a box")


def test_batch_runs_the_grid_and_continues_after_a_failure(tmp_path: Path) -> None:
    values = (
        "--set",
        "1.name=a",
        "--set",
        "1.name=broken",
        "--set",
        "1.steps=1",
        "--set",
        "1.steps=2",
    )
    result = invoke("batch", workflow(tmp_path), *values, "--out", tmp_path / "o")
    assert result.exit_code == 1 and "2 done, 2 failed" in result.output
    records = Records(tmp_path / "o")
    records.resume()
    assert [row.values["1.name"] for row in records.rows] == ["a", "a", "broken", "broken"]
    assert [row.state for row in records.rows] == ["done", "done", "failed", "failed"]
    assert (tmp_path / "o" / "results.html").read_text().count("count_00001_.txt</a>") == 2
    [made] = (tmp_path / "o").glob("002-counting-*/sub/count_00001_.txt")
    assert made.read_text().split() == ["1", "2"]


def test_a_table_of_rows_runs_here_too(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1.name,1.steps\na,2\nb,\n")
    command = ("batch", workflow(tmp_path), "--params", tmp_path / "rows.csv")
    result = invoke(*command, "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    made = sorted((tmp_path / "o").glob("*/sub/*.txt"))
    assert [path.read_text().split() for path in made] == [["1", "2"], ["1", "2", "3"]]
    (tmp_path / "rows.csv").write_text("1.steps\n1\nx\n")
    result = invoke(*command, "--out", tmp_path / "p")
    assert result.exit_code == 1 and "rows.csv row 2, 1.steps=x: must be a number" in result.output
    assert not [*(tmp_path / "p").glob("*/sub/*")], "a bad value is refused before anything runs"


def test_finished_rows_stay_finished_here_too(tmp_path: Path) -> None:
    out, path = tmp_path / "o", workflow(tmp_path)
    names = [part for name in ("a", "broken") for part in ("--set", f"1.name={name}")]
    assert invoke("batch", path, *names, "--out", out).exit_code == 1
    again = invoke("batch", path, *names, "--set", "1.name=b", "--out", out)
    assert "[1/3] " in again.output and ": done by an earlier run" in again.output
    assert "2 done, 1 failed" in again.output
    assert len([*out.glob("*/sub/*.txt")]) == 2, "one file for each row, of one run"
    whole = next(out.glob("001-*/sub/*.txt"))
    whole.unlink()
    invoke("batch", path, *names, "--out", out)
    assert [*whole.parent.glob("*.txt")], "a row whose file is gone is made again"


MAIN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import conftest
from longtake.tests.headless import test_run as here
from longtake.headless import start
from longtake.headless.hosts import stand_in
stand_in.our_extension = here.counting_extension
start.main()
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )


def read_until(process: subprocess.Popen[str], marker: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if marker in line:
            return seen
    raise AssertionError(f"no {marker!r} in {seen}")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_and_says_how_to_resume(
    sent: signal.Signals, code: int, tmp_path: Path
) -> None:
    path = workflow(tmp_path, steps=1000, pause_s=0.01)
    with start("run", path, "--out", tmp_path / "o") as process:
        try:
            read_until(process, "chunk")
            process.send_signal(sent)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, output
    assert "Stopping after this step" in output and "Interrupted after chunk" in output
    assert "count_00001_.txt is playable up to there. Run the same command again" in " ".join(
        output.split()
    )


def test_a_handler_is_not_installed_outside_the_main_thread(tmp_path: Path) -> None:
    ended: list[RunFiles] = []
    thread = threading.Thread(
        target=lambda: ended.append(run_here(workflow(tmp_path), tmp_path)[0])
    )
    thread.start()
    thread.join()
    assert len(ended) == 1
