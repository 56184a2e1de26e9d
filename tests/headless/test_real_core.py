"""The same workflow in a real ComfyUI: in a child process, and through its server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from longtake.core import checkout as core_checkout
from longtake.core.checkout import ComfyCore, check_checkout, core_python
from longtake.errors import BadInput, LongtakeError
from longtake.headless import cli
from longtake.headless.cli import main
from longtake.headless.console.options import split_flags
from longtake.headless.events import BarMoved, ChunkDone, Event, FileSaved, Notice, RunFiles
from longtake.headless.hosts import real_core
from longtake.headless.hosts.real_core import open_core
from longtake.headless.runner import Job, run_workflow
from longtake.tests.support.server_process import free_port, serving

ROOT = Path(__file__).resolve().parents[2]
COMFY = Path(os.environ.get("COMFYUI_PATH", Path.home() / "ComfyUI"))
WORKFLOW = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"
START_LIMIT_S, RUN_LIMIT_S = 600, 600

needs_core = [
    pytest.mark.comfy,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        not (COMFY / "main.py").is_file(), reason="no ComfyUI checkout (set COMFYUI_PATH)"
    ),
]


def test_a_folder_without_a_checkout_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a ComfyUI checkout"):
        check_checkout(tmp_path)


def fake_checkout(folder: Path, version: str) -> Path:
    (folder / "comfy_api").mkdir()
    (folder / "nodes.py").write_text("")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return folder


@pytest.mark.parametrize(("version", "fits"), [("0.20.9", False), ("0.21.0", True), ("1.0", True)])
def test_old_cores_are_rejected(tmp_path: Path, version: str, fits: bool) -> None:
    checkout = fake_checkout(tmp_path, version)
    if fits:
        assert check_checkout(checkout) == version
    else:
        with pytest.raises(
            BadInput, match="is version 0.20.9; update it, Longtake needs 0.21 or newer"
        ):
            check_checkout(checkout)


def test_the_checkouts_own_python_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_checkout, "CORE_PACKAGES", ("no_such_package",))
    with pytest.raises(BadInput, match="No Python with ComfyUI's packages was found"):
        core_python(tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    assert core_python(tmp_path) == python


def last_words(
    child: str, flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """What a user reads when the script `child` runs in place of the core's, and ends."""
    script = tmp_path / "child.py"
    script.write_text(child)
    monkeypatch.setattr(real_core, "CHILD", script)
    monkeypatch.setattr(core_checkout, "core_python", lambda _: Path(sys.executable))
    core = ComfyCore(fake_checkout(tmp_path, "0.33"), flags)
    with (
        open_core(core, tmp_path, print, disable_metadata=True) as host,
        pytest.raises(LongtakeError) as caught,
    ):
        host.specs(["CountUp"])
    return str(caught.value)


def test_a_core_that_dies_is_one_sentence_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = last_words("import sys; sys.exit('no such device')", (), tmp_path, monkeypatch)
    assert "ComfyUI ended unexpectedly (exit code 1): no such device; its log is" in words


def test_the_core_starts_with_its_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = "import sys; sys.exit(repr(sys.argv[3:]))"
    words = last_words(child, ("--reserve-vram", "2"), tmp_path, monkeypatch)
    assert "['--reserve-vram', '2', '--disable-metadata']" in words


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--comfy-flags", "--lowvram"], "--comfy-flags needs --comfy"),
        (["--comfy", ".", "--comfy-flags", "--base-directory 'a"], "No closing quotation"),
    ],
)
def test_flags_of_the_core_that_cannot_be_read(arguments: list[str], complaint: str) -> None:
    run = CliRunner().invoke(main, ["run", str(WORKFLOW), *arguments], env={"COMFYUI_PATH": ""})
    assert run.exit_code == 2 and complaint in run.output


def test_flags_are_split_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cores: list[ComfyCore] = []
    monkeypatch.setattr(cli, "session", lambda _, core, *__, **___: cores.append(core))
    flags = "--lowvram --base-directory 'my models'"
    CliRunner().invoke(main, ["run", str(WORKFLOW), "--comfy", "here", "--comfy-flags", flags])
    assert cores == [ComfyCore(Path("here"), ("--lowvram", "--base-directory", "my models"))]


@pytest.mark.parametrize(
    ("platform", "text", "folder"),
    [
        ("linux", r"--base-directory a\ b\\c", r"a b\c"),
        ("win32", r"--base-directory D:\new\models", r"D:\new\models"),
        ("win32", r'--base-directory "D:\my models\\"', "D:\\my models\\\\"),
    ],
)
def test_a_backslash_is_part_of_a_path_on_windows(
    platform: str, text: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert split_flags(text) == ("--base-directory", folder)


def counting(folder: Path, **inputs: object) -> Path:
    source = {"steps": 3, "pause_s": 0.0, "name": "count", "loud": False, "kind": "up", **inputs}
    content = {
        "1": {"class_type": "CountUp", "inputs": source},
        "2": {
            "class_type": "CountSave",
            "inputs": {"counter": ["1", 0], "filename_prefix": "sub/count"},
        },
    }
    path = folder / "counting.json"
    path.write_text(json.dumps(content))
    return path


SIGNALS = """
import os, signal, subprocess
os.kill(os.getpid(), signal.SIGTERM)
program = subprocess.run(["sh", "-c", "kill $$"]).returncode
if not (fork := os.fork()):
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(0)
raise ImportError(f"lives, {-program} and {os.waitpid(fork, 0)[1]} do not")
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_sigterm_to_the_whole_group_is_left_to_the_parent(tmp_path: Path) -> None:
    """Systemd and Slurm send it to the core too; the parent then ends in order.

    Nodes can still end the programs that they start.
    """
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "options.py").write_text(SIGNALS)
    child = subprocess.run(
        [sys.executable, str(real_core.CHILD), str(tmp_path), str(ROOT)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = f"ImportError: lives, {signal.SIGTERM:d} and {signal.SIGTERM:d} do not"
    assert (child.returncode, said in child.stdout) == (1, True), child.stderr


class Recorder:
    """Keep every event; interrupt at a chunk if requested."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.interrupt_at: int | None = None

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, ChunkDone) and event.chunk == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)


class TestCoreInAChild:
    pytestmark = needs_core

    def test_a_flag_that_the_core_lacks_is_named(self, tmp_path: Path) -> None:
        with (
            open_core(ComfyCore(COMFY, ("--lowram",)), tmp_path, print) as host,
            pytest.raises(LongtakeError, match="unrecognized arguments: --lowram"),
        ):
            host.specs(["LongtakePreview"])

    def test_events_files_failures_and_interrupts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One start of the core serves all checks, with the counting pack in place of ours."""
        monkeypatch.setattr(real_core, "PACK", Path(__file__).parents[1] / "counting_pack")
        heard = Recorder()
        with open_core(ComfyCore(COMFY), tmp_path, heard) as host:
            run_workflow(host, Job(counting(tmp_path), (), tmp_path))
            assert FileSaved("video", tmp_path / "sub" / "count_00001_.txt") in heard.events
            assert [one.chunk for one in heard.events if isinstance(one, ChunkDone)] == [0, 1, 2]
            assert any(isinstance(one, BarMoved) and one.done == 3 for one in heard.events)
            assert Notice("counting count") in heard.events

            with pytest.raises(
                LongtakeError, match=r"Node 1 \(CountUp\) failed with ValueError: a bug"
            ):
                run_workflow(host, Job(counting(tmp_path, name="broken"), (), tmp_path))
            with pytest.raises(BadInput, match="input steps: must be at least 1"):
                run_workflow(host, Job(counting(tmp_path, steps=0), (), tmp_path))

            heard.interrupt_at = 20
            with pytest.raises(KeyboardInterrupt):
                run_workflow(host, Job(counting(tmp_path, steps=2000, pause_s=0.01), (), tmp_path))
            last = [one.chunk for one in heard.events if isinstance(one, ChunkDone)][-1]
            assert 20 <= last < 2000

    def test_the_example_runs_with_our_nodes_and_can_be_watched(self, tmp_path: Path) -> None:
        made = RunFiles()
        with open_core(ComfyCore(COMFY), tmp_path, made.add) as host, host.serve_player() as url:
            run_workflow(host, Job(WORKFLOW, (), tmp_path))
            address, _, key = url.partition("/#")
            [named] = _request(address, "/longtake/attach", {"client_id": key})["takes"]
            take = _request(address, f"/longtake/takes/{named['take']}")
        assert take["state"] == "done" and take["frames"] == take["total_frames"] > 0
        assert made.paths("video") and all(path.stat().st_size > 0 for path in made.paths("video"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a running ComfyUI whose only custom node pack is this checkout."""
    base = tmp_path_factory.mktemp("base")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "longtake").symlink_to(ROOT, target_is_directory=True)
    port = free_port()
    flags = ["--cpu", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    place = ["--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base)]
    command = [str(core_python(COMFY)), "main.py", *flags, *place]
    with serving(command, port, base / "server.log", START_LIMIT_S, cwd=COMFY) as address:
        yield address


class TestCoreServer:
    pytestmark = needs_core

    def test_the_pack_loads_in_the_quick_test(self, tmp_path: Path) -> None:
        (tmp_path / "custom_nodes").mkdir()
        (tmp_path / "custom_nodes" / "longtake").symlink_to(ROOT, target_is_directory=True)
        flags = [
            "--cpu",
            "--quick-test-for-ci",
            "--disable-api-nodes",
            "--database-url",
            "sqlite:///:memory:",
        ]
        command = [str(core_python(COMFY)), "main.py", *flags, "--base-directory", str(tmp_path)]
        done = subprocess.run(command, cwd=COMFY, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "Error while calling comfy_entrypoint" not in said and "IMPORT FAILED" not in said

    def test_the_example_workflow_runs_through_post_prompt(self, server: str) -> None:
        prompt_id = _request(server, "/prompt", {"prompt": json.loads(WORKFLOW.read_text())})[
            "prompt_id"
        ]
        # The entry appears shortly after the run has ended.
        _wait_for(lambda: prompt_id in _request(server, f"/history/{prompt_id}"), RUN_LIMIT_S)
        entry = _request(server, f"/history/{prompt_id}")[prompt_id]
        assert entry["status"]["status_str"] == "success", entry["status"]
        saved = [file for output in entry["outputs"].values() for file in output.get("images", [])]
        assert any(file["filename"].endswith(".mp4") for file in saved)


def _request(server: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(error.read().decode()) from error


def _wait_for(condition: Callable[[], bool], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"nothing within {limit_s} s"
        time.sleep(0.2)
