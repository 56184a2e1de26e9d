"""The networks that a measurement samples from, and how."""

from __future__ import annotations

from pathlib import Path

import torch

from longtake.attention.cache.policy import WindowSink
from longtake.model.preset import DEMO, DEMO_FOLDER, FAST_FOLDER
from longtake.model.preset_cache import preset_cache
from longtake.tests.support.model.camera_demo import demo_with_camera, demo_without_camera
from longtake.training.evaluation.kit import (
    Recipe,
    load_kit,
    network_files,
    sample,
    settings_of,
    with_networks,
)

PROMPTS = [(0, "a red ball, the camera pans left")]


def test_other_networks_bring_their_sizes_and_their_camera(tmp_path: Path) -> None:
    """Whichever of the two takes a camera, each samples as if it had been loaded alone."""
    folders = demo_with_camera(tmp_path / "with"), demo_without_camera(tmp_path / "without")
    shots = []
    for folder in folders:
        kits = [load_kit(folder), with_networks(load_kit(DEMO_FOLDER), folder)]
        kits += [with_networks(load_kit(other), folder) for other in folders]
        recipe = Recipe(length=3, rows=4, columns=6, steps=1, first_steps=1)
        chunks = [next(sample(kit, recipe, PROMPTS, 0)).latents for kit in kits]
        assert all(torch.equal(chunk, chunks[0]) for chunk in chunks)
        shots.append(chunks[0])
    assert not torch.equal(*shots)


def test_a_recipe_remembers_as_the_demo_does_unless_it_names_another_cache() -> None:
    kit = load_kit(DEMO_FOLDER)
    assert settings_of(kit, Recipe(), PROMPTS, 0).cache == preset_cache(DEMO)
    window = WindowSink(9)
    assert settings_of(kit, Recipe(cache=window), PROMPTS, 0).cache is window


def test_networks_that_a_folder_lacks_are_the_demos() -> None:
    files = network_files(FAST_FOLDER)
    assert files.pop("dit") == FAST_FOLDER / "dit.safetensors"
    assert files == {
        name: DEMO_FOLDER / f"{name}.safetensors" for name in ("vae", "text", "oracle")
    }
    assert network_files(DEMO_FOLDER)["dit"] == DEMO_FOLDER / "dit.safetensors"
