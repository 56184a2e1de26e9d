"""Families that are published under diffusers' names, as one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.model.families.recognise import recognise
from longtake.model.files.weights import open_weights
from longtake.tests.support.model.diffusers_names import to_diffusers
from longtake.tests.support.model.family_files import header_only, official_shapes


@pytest.mark.parametrize(
    "folder",
    [
        "models--SJTU-DENG-Lab--WaveForcing-T2V-1.3B-5step-Preview/snapshots/abc",
        "ckpts/WaveForcing-T2V-1.3B-5step-Preview",
    ],
)
def test_wave_forcings_preview_is_known_by_its_folder(tmp_path: Path, folder: str) -> None:
    """At its real size, in the folders of Hugging Face's cache and of the authors' own command."""
    shapes = {to_diffusers(name): shape for name, shape in official_shapes("1.3B").items()}
    path = header_only(tmp_path / folder / "model.safetensors", shapes)
    model = recognise(open_weights(path).header)
    assert (model.family.key, model.copy.layout, model.unused) == ("wave-forcing", "diffusers", ())
