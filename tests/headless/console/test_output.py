"""Work whose output cannot be written goes on to its end, and the exit code tells."""

from __future__ import annotations

import _pyio
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.headless.console import output
from longtake.headless.console.interrupt import INTERRUPTED

pytestmark = pytest.mark.skipif(os.name != "posix", reason="redirects as a shell of POSIX does")

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import contextlib, os, signal, sys, time, types
from longtake.headless import start

def command():
    {command}

sys.modules["longtake.headless.cli"] = types.SimpleNamespace(main=command)
start.main()
"""
WORK = """
    for number in range(50_000):  # more than a pipe holds, so that `head` ends first
        print("line", number)
    with open("video.mp4", "w") as video:
        with contextlib.suppress(OSError):
            os.write(1, b"a library's own message")
        video.write("whole")
"""
LOST = (
    "Failed: standard output cannot be written ({}), and what followed is lost; send it elsewhere."
)


def run(folder: Path, command: str, redirect: str, **variables: str) -> tuple[int, str]:
    """Run the start of the program in a folder; return its exit code and what stderr got."""
    (folder / "longtake").symlink_to(ROOT)
    (folder / "program.py").write_text(PROGRAM.format(command=command.strip()))
    line = f'"{sys.executable}" program.py {redirect}'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=folder,
        env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("redirect", "code", "told"),
    [
        ("", 0, ""),
        ("> /dev/full", 1, LOST.format("No space left on device")),
        (">&-", 1, LOST.format("Bad file descriptor")),
        ("| head -1", 1, ""),
        ("2>&-", 0, ""),
        ("2> /dev/full", 0, ""),
        ("> /dev/full 2>&1", 1, ""),
        ("<&- >&- 2>&-", 1, ""),
    ],
)
def test_the_works_file_is_whole(tmp_path: Path, redirect: str, code: int, told: str) -> None:
    if "/dev/full" in redirect and not Path("/dev/full").exists():
        pytest.skip("no full device here")
    assert run(tmp_path, WORK, redirect) == (code, told)
    assert (tmp_path / "video.mp4").read_text() == "whole"


def test_a_child_process_has_all_standard_descriptors(tmp_path: Path) -> None:
    command = """
    import subprocess
    look = "import os; [os.fstat(number) for number in range(3)]"
    raise SystemExit(subprocess.run([sys.executable, "-c", look]).returncode)
"""
    assert run(tmp_path, command, "<&- >&- 2>&-") == (0, "")


@pytest.mark.parametrize("code", [1, 2, INTERRUPTED])
def test_a_failures_own_exit_code_stays(tmp_path: Path, code: int) -> None:
    assert run(tmp_path, f'print("hint"); raise SystemExit({code})', ">&-") == (
        code, LOST.format("Bad file descriptor"),
    )  # fmt: skip


def test_who_prints_nothing_loses_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "raise SystemExit(0)", ">&-") == (0, "")


def test_a_letter_that_the_output_lacks_is_escaped(tmp_path: Path) -> None:
    command = 'print("\\u4e00"); print("\\u4e01", file=sys.stderr)'
    code, told = run(tmp_path, command, "> said", PYTHONIOENCODING="latin-1")
    assert (code, told, (tmp_path / "said").read_text()) == (0, "\\u4e01", "\\u4e00\n")


def test_a_name_that_is_no_text_ends_no_work_where_nobody_listens(tmp_path: Path) -> None:
    """Such as the name of a file that Linux has in other letters than UTF-8."""
    command = """
    print("caf\\udce9.mp4")
    print("caf\\udce9.mp4", file=sys.stderr)
    open("whole", "w").close()
"""
    assert run(tmp_path, command, ">&- 2>&-") == (1, "")
    assert (tmp_path / "whole").exists()


def test_lines_end_as_the_systems_lines_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python's own output does; its streams in Python ask the system, those in C know it."""
    monkeypatch.setattr(io, "TextIOWrapper", _pyio.TextIOWrapper)
    monkeypatch.setattr(os, "linesep", "\r\n")
    monkeypatch.setattr(sys, "stderr", None)
    file = io.BytesIO()
    own = _pyio.TextIOWrapper(file, "utf-8")
    monkeypatch.setattr(sys, "stdout", own)
    output.keep_output()
    sys.stdout.write("line\n")
    sys.stdout.flush()
    assert file.getvalue() == b"line\r\n"


def test_ctrl_c_stops_also_where_stderr_is_full(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no full device here")
    command = """
    from longtake.headless.console.interrupt import two_stage_interrupt
    asked = []
    with two_stage_interrupt(lambda: asked.append(True)):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    print("asked" if asked else "not asked")
"""
    assert run(tmp_path, command, "2> /dev/full > said")[0] == 0
    assert (tmp_path / "said").read_text() == "asked\n"
