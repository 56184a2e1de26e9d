"""The temp folder of a run without ComfyUI: its own, and gone with the run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from longtake.errors import StorageError
from longtake.headless.hosts.stand_in import host_modules
from longtake.machine.temporary_files import temporary_name


def host_temp() -> Path:
    """The folder that the loaded host names, which a node writes a picture to."""
    folder = Path(sys.modules["folder_paths"].get_temp_directory())
    (folder / "levels.png").write_bytes(b"PNG")
    return folder


def test_a_run_leaves_nothing_in_the_temp_folder(tmp_path: Path) -> None:
    with host_modules(tmp_path, print):
        temp = host_temp()
        assert temp.is_relative_to(tmp_path)
    with pytest.raises(KeyboardInterrupt), host_modules(tmp_path, print):
        host_temp()
        raise KeyboardInterrupt
    assert list((tmp_path / ".longtake" / "temp").iterdir()) == []


def test_a_run_removes_what_a_killed_one_left_and_nothing_of_one_that_goes_on(
    tmp_path: Path,
) -> None:
    root = tmp_path / ".longtake" / "temp"
    killed, alive = (
        root / temporary_name(name, process, 1) for name, process in (("a", 2**22 + 1), ("b", 1))
    )
    for folder in (killed, alive):
        folder.mkdir(parents=True)
        (folder / "levels.png").write_bytes(b"PNG")
    with host_modules(tmp_path, print):
        host_temp()
    assert list(root.rglob("*.png")) == [alive / "levels.png"]


def test_a_temp_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".longtake").write_bytes(b"")
    sentence = "choose another output folder with --out"
    with pytest.raises(StorageError, match=sentence), host_modules(tmp_path, print):
        pytest.fail("the host opened")
