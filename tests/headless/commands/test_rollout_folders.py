"""`longtake rollouts` names the folder that was meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from longtake.headless.cli import main
from longtake.stream.store.opening import MARK, VARIABLE, open_store


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder with a journal."""
    folder = tmp_path / "Ausgabe für alle"
    (folder / "longtake" / ".rollouts" / "inner").mkdir(parents=True)
    return folder


def listing(*options: object) -> Result:
    return CliRunner().invoke(main, ["rollouts", "list", *map(str, options)])


PLACES = ["longtake/.rollouts/inner", "longtake/.rollouts", "longtake", ".."]


@pytest.mark.parametrize("place", PLACES)
def test_a_folder_above_or_below_is_told_the_output_folder(out: Path, place: str) -> None:
    named = Path(os.path.normpath(out / place))
    told = listing("--out", named)
    assert told.exit_code == 1 and told.stdout == ""
    assert told.stderr == (
        f"Failed: There are no rollouts in {named}; give --out {out}, which has some.\n"
    )


def test_a_new_output_folder_has_no_rollouts(tmp_path: Path) -> None:
    told = listing("--out", tmp_path)
    assert (told.exit_code, told.stdout) == (0, f"There are no rollouts in {tmp_path}.\n")
    assert listing("--out", tmp_path, "--json").stdout == "[]\n"


@pytest.mark.parametrize("place", ["chunks", "..", "."])
def test_a_folder_beside_a_store_is_told_it_and_made_no_store(tmp_path: Path, place: str) -> None:
    store = tmp_path / "store"
    open_store(str(store))
    (store / "chunks").mkdir()
    named = Path(os.path.normpath(store / place))
    told = listing("--store", named, "--out", tmp_path / "out")
    if place == ".":
        assert told.exit_code == 0
        return
    assert told.exit_code == 1 and not (named / MARK).exists()
    assert f"There is no store in {named}; give --store {store}, which is one." in told.stderr


def test_a_store_that_is_not_there_yet_may_be_named(tmp_path: Path) -> None:
    assert listing("--store", tmp_path / "store", "--out", tmp_path).exit_code == 0


def test_an_output_folder_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    told = listing("--out", tmp_path)
    assert told.exit_code == 1 and told.stderr == (
        f"Failed: The folder {tmp_path} cannot be read (Permission denied); "
        "check its permissions.\n"
    )
