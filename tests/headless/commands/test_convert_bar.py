"""`longtake convert` shows a bar once tensors are written, and none before it refuses its input."""

from __future__ import annotations

from pathlib import Path

import torch
from click.testing import CliRunner, Result

from longtake.headless import cli
from longtake.tests.support.model.family_files import prefix, rename, state


def converted(source: Path, out: Path) -> Result:
    return CliRunner().invoke(cli.main, ["convert", str(source), str(out)])


def test_a_refusal_is_all_that_is_shown(tmp_path: Path) -> None:
    source = tmp_path / "self_forcing_dmd.pt"
    refused = converted(source, tmp_path / "out.safetensors")
    assert refused.exit_code == 1 and refused.stdout == "" and "Failed: " in refused.stderr
    torch.save(rename(state(), prefix("model.")), source)
    refused = converted(source, tmp_path / "out.pt")
    assert refused.stdout == "" and "must end in .safetensors" in refused.stderr


def test_a_conversion_shows_its_bar(tmp_path: Path) -> None:
    source = tmp_path / "self_forcing_dmd.pt"
    torch.save(rename(state(), prefix("model.")), source)
    assert "100%" in converted(source, tmp_path / "out.safetensors").stdout
