"""Weights files that are larger than the system's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.model.checkpoint import read
from longtake.model.files import safetensors_file
from longtake.model.files.safetensors_file import SafetensorsReader
from longtake.model.recurrent.file import is_recurrent, recurrent_header
from longtake.tests.support.model.family_files import header_only

TENSOR = "blocks.0.self_attn.q.weight"
HUGE = {TENSOR: (1 << 20, 1 << 19)}  # 1.1 TB


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_header_is_read_whatever_the_size_of_its_file(tmp_path: Path, recurrent: bool) -> None:
    path = tmp_path / "a.safetensors"
    header_only(path, HUGE, **(recurrent_header() if recurrent else {}))
    assert path.stat().st_size > 1 << 40
    assert is_recurrent(path) is recurrent


def test_a_file_that_cannot_be_mapped_is_named_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system says of its memory depends on its settings, so the failure is made here."""
    path = header_only(tmp_path / "a.safetensors", HUGE)

    def no_room(*arguments: object) -> None:
        raise RuntimeError("unable to mmap 1099511627776 bytes: Cannot allocate memory (12)")

    monkeypatch.setattr(safetensors_file, "safe_open", no_room)
    for attempt in (lambda: SafetensorsReader({TENSOR: path})(TENSOR), lambda: read(path)):
        with pytest.raises(BadInput, match=r"a.safetensors \(1024\.0 GB\) is larger than this"):
            attempt()
