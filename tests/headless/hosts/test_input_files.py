"""The names of input files in a workflow of ComfyUI's page, without ComfyUI."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.headless.hosts.stand_in.core_nodes import input_file


def test_the_folder_that_the_page_writes_behind_a_name_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's mask editor writes `clipspace/masked.png [input]`."""
    mask = Path("input") / "clipspace" / "masked.png"
    monkeypatch.chdir(tmp_path)
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"a picture")
    assert input_file("clipspace/masked.png [input]") == mask
    with pytest.raises(BadInput, match="neither in the folder input/"):
        input_file("clipspace/masked.png [output]")
