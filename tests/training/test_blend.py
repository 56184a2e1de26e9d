"""The mean of two runs' weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longtake.errors import BadInput
from longtake.training.blend import blend


def write(folder: Path, value: float, layer: str = "a") -> Path:
    folder.mkdir()
    for part in ("dit", "text"):
        tensors = {layer: torch.full((3,), value).half(), "b": torch.full((2,), -value).half()}
        save_file(tensors, folder / f"{part}.safetensors", {"config": f"of {part} {value:g}"})
    return folder


def test_the_mean_lies_between_and_has_the_later_runs_header(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", 1.0), write(tmp_path / "2", 3.0)
    blend(first, second, tmp_path / "out", 0.25)
    for part in ("dit", "text"):
        made = load_file(tmp_path / "out" / f"{part}.safetensors")
        assert made["a"].tolist() == [1.5] * 3 and made["b"].tolist() == [-1.5] * 2
        assert made["a"].dtype == torch.float16
        with safe_open(tmp_path / "out" / f"{part}.safetensors", "pt") as file:
            assert file.metadata()["config"] == f"of {part} 3"


def test_models_of_different_layers_are_refused(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", 1.0), write(tmp_path / "2", 3.0, "other")
    with pytest.raises(BadInput, match=r"different layers in dit\.safetensors"):
        blend(first, second, tmp_path / "out", 0.5)
