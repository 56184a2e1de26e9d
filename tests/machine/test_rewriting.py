"""A file that a user names is replaced whole: a full disk leaves the older one."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtake.benchmarks._shared.report import save_figure, save_picture
from longtake.headless.cli import _write_report
from longtake.headless.events import FileSaved, RunFiles
from longtake.machine.temporary_files import write_whole
from longtake.model.vae.int8.ranges import save_ranges
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.stream.metrics import Report
from longtake.training.run import save_half

LARGEST_BYTES = 16


class Figure:
    """A figure of matplotlib, which the tests do not need."""

    def savefig(self, file: object, *, format: str) -> None:
        assert format == "png"
        file.write(bytes(999))  # type: ignore[attr-defined]


def save_report(path: Path) -> None:
    own = path.with_name("own.json")
    files = RunFiles([FileSaved("report", own)])
    _write_report(files, path)


WRITERS: list[Callable[[Path], None]] = [
    save_report,
    Report().save,
    lambda path: save_figure(Figure(), path),  # type: ignore[arg-type]
    lambda path: save_picture(Image.new("RGB", (64, 64)), path),
    lambda path: save_ranges({"a": torch.rand(9)}, TinyVAE(TinyVAEConfig()), path),
    lambda path: save_half({"a": torch.zeros(99)}, path),
]


def fails_on_a_full_disk(writer: Callable[[Path], None], path: Path) -> bool:
    """Whether a writer fails in a process whose files may not grow beyond `LARGEST_BYTES`."""
    import resource

    child = os.fork()
    if child == 0:
        code = 0
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_BYTES, LARGEST_BYTES))
            writer(path)
        except BaseException:
            code = 7
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="limits files as POSIX does")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_older_file(tmp_path: Path, writer: Callable[[Path], None]) -> None:
    path = tmp_path / "file.png"
    (tmp_path / "own.json").write_bytes(bytes(99))
    writer(path)
    before = path.read_bytes()
    assert len(before) > LARGEST_BYTES
    assert fails_on_a_full_disk(writer, path)
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file.png", "own.json"]


def test_a_link_leads_to_the_new_file_and_its_permissions_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "kept" / "r.json", tmp_path / "r.json"
    target.parent.mkdir()
    target.write_text("older")
    target.chmod(0o600)
    link.symlink_to(target)
    write_whole(link, "newer")
    assert link.is_symlink() and target.read_text() == "newer"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name, as POSIX has")
def test_a_pipe_is_written_itself(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "text")
    assert os.read(reader, 9) == b"text" and list(tmp_path.iterdir()) == [pipe]
    os.close(reader)
