"""`longtake inspect` on files that are a part of a model, and on doubtful ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.headless.commands.inspect import inspect, lines
from longtake.tests.support.model.family_files import header_only, official_shapes
from longtake.tests.support.model.flashvsr import store_parts


@pytest.mark.some_cases(1)
@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("LQ_proj_in.ckpt", "low-quality projector"),
        ("TCDecoder.ckpt", "decoder"),
        ("posi_prompt.pth", "prompt embedding"),
    ],
)
def test_a_part_of_flashvsr_is_named(tmp_path: Path, name: str, title: str) -> None:
    transformer = store_parts(tmp_path)
    text = "\n".join(lines(inspect(tmp_path / name)))
    assert f"part        FlashVSR's {title}, version 1 or 1.1" in text
    found = inspect(transformer)
    assert "part" not in found and "is FlashVSR by its name" in str(found)


def test_a_name_that_says_few_steps_is_a_warning(tmp_path: Path) -> None:
    shapes = official_shapes("1.3B")
    findings = inspect(header_only(tmp_path / "Wan_Lightning.safetensors", shapes))
    assert "warning     Its name has 'lightning'" in "\n".join(lines(findings))
    assert inspect(header_only(tmp_path / "Wan.safetensors", shapes))["warnings"] == []
