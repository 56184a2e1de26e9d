"""How commands end: Ctrl-C while the program loads, in a command, and after all is done; a
failure. No traceback, no lie.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from longtake.errors import BadInput
from longtake.headless.console.interrupt import (
    INTERRUPTED,
    TERMINATED,
    end_at_once,
    raise_from_now_on,
)
from longtake.headless.console.reporting import report_failures
from longtake.headless.events import ChunkDone, FileSaved, RunFiles

ROOT = Path(__file__).resolve().parents[2]
PRESS = "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2)"
END = f"raise SystemExit({INTERRUPTED})"
TERMINATE = PRESS.replace("SIGINT", "SIGTERM")
START = """
import os, signal, sys, time, types
from longtake.headless import start
from longtake.headless.console.interrupt import raise_from_now_on

def command():
    raise_from_now_on()
    try:
        {in_command}
    except KeyboardInterrupt:
        print("kept")

class Commands(types.ModuleType):
    @property
    def main(self):
        {while_loading}
        return command

sys.modules["longtake.headless.cli"] = Commands("longtake.headless.cli")
start.main()
{after}
print("ended")
"""


def run(tmp_path: Path, **at: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a Ctrl-C at one place; the command line itself is a stand-in."""
    (tmp_path / "longtake").symlink_to(ROOT)
    places = {"while_loading": "pass", "in_command": "pass", "after": "pass", **at}
    return subprocess.run(
        [sys.executable, "-c", START.format(**places)], env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("sent", "code"), [(PRESS, INTERRUPTED), (TERMINATE, TERMINATED)])
def test_while_it_loads_one_sentence_is_said(sent: str, code: int, tmp_path: Path) -> None:
    done = run(tmp_path, while_loading=sent)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.strip() == "Interrupted before anything was begun."


@pytest.mark.parametrize("sent", [PRESS, TERMINATE])
def test_a_command_decides_what_is_kept(sent: str, tmp_path: Path) -> None:
    done = run(tmp_path, in_command=sent)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["kept", "ended"], "")


def test_only_the_first_sigterm_of_two_counts(tmp_path: Path) -> None:
    """Whoever signals a process and its whole group must not cut the command's last lines off."""
    keep = f"{TERMINATE}\n    except KeyboardInterrupt:\n        {TERMINATE}\n        {END}"
    done = run(tmp_path, in_command=keep)
    assert (done.returncode, done.stdout, done.stderr) == (TERMINATED, "", "")


@pytest.mark.parametrize("sent", [PRESS, TERMINATE])
def test_after_all_is_done_nothing_is_interrupted(sent: str, tmp_path: Path) -> None:
    done = run(tmp_path, after=sent)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["ended"], "")


def test_only_the_programs_own_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that calls the command line keeps its own way."""
    own = signal.getsignal(signal.SIGINT)
    raise_from_now_on()
    assert signal.getsignal(signal.SIGINT) is own
    try:
        signal.signal(signal.SIGINT, end_at_once)
        raise_from_now_on()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, own)


def test_only_a_video_that_has_begun_is_called_playable(tmp_path: Path) -> None:
    console, files = Console(file=StringIO(), width=500), RunFiles()
    for name in ("none.mp4", "empty.mp4", "begun.mp4"):
        files.add(FileSaved("video", tmp_path / name))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "begun.mp4").write_bytes(b"ftyp")
    with pytest.raises(SystemExit) as ended, report_failures(console, files, debug=False):
        raise KeyboardInterrupt
    assert ended.value.code == INTERRUPTED
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Interrupted. {tmp_path / 'begun.mp4'} is playable up to there. Run" in said


def test_the_folder_of_the_frames_so_far_is_named(tmp_path: Path) -> None:
    console, files = Console(file=StringIO(), width=500), RunFiles()
    for name in ("clip_frames", "none_frames"):
        files.add(FileSaved("frames", tmp_path / name))
    (tmp_path / "clip_frames").mkdir()
    with pytest.raises(SystemExit), report_failures(console, files, debug=False):
        raise KeyboardInterrupt
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Interrupted. {tmp_path / 'clip_frames'} has the frames up to there. Run" in said


@pytest.mark.parametrize(("from_disk", "where"), [(False, " after chunk 3"), (True, "")])
def test_a_chunk_from_disk_is_not_called_the_last(*, from_disk: bool, where: str) -> None:
    console, files = Console(file=StringIO(), width=500), RunFiles()
    files.add(ChunkDone(2, from_disk=from_disk))
    with pytest.raises(SystemExit), report_failures(console, files, debug=False):
        raise KeyboardInterrupt
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.startswith(f"Interrupted{where}. Run the same command again")


def test_a_failure_is_no_part_of_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(SystemExit),
        report_failures(Console(soft_wrap=True), RunFiles(), debug=False),
    ):
        raise BadInput("There is no such file.")
    assert capsys.readouterr() == ("", "Failed: There is no such file.\n")
