"""FlashVSR's transformer as the core's own MODEL: the same pictures as by the engine alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.graphs import collected, node
from longtake.tests.in_core.support.outputs import pictures
from longtake.tests.support.model.flashvsr import store_parts, upscaled

SIDE, COUNT = 32, 23  # two passes
NAME = "FlashVSR-v1.1/diffusion_pytorch_model_streaming_dmd.safetensors"


@pytest.fixture
def picture(client: Client) -> Iterator[np.ndarray]:
    """A picture in the input folder, beside a small FlashVSR among the models."""
    store_parts(client.base / "models" / "diffusion_models" / "FlashVSR-v1.1")
    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    file = client.base / "input" / "small.png"
    Image.fromarray(pixels).save(file)
    yield pixels
    file.unlink()


def graph() -> dict[str, Any]:
    return {
        "1": node("LoadImage", image="small.png"),
        "2": node("RepeatImageBatch", image=["1", 0], amount=COUNT),
        "3": node(
            "LongtakeLoadFlashVSR", model_name=NAME, version="1.1", projector="beside the model",
            decoder="beside the model", prompt="beside the model", weight_dtype="auto",
        ),
        "4": node(
            "LongtakeSuperResolution", frames=["2", 0], flashvsr=["3", 0], scale=4.0, seed=5,
            colors="adain", density=2.0, reach="11",
        ),
        "5": collected("4"),
        "6": node("SaveImage", images=["5", 0], filename_prefix="core/sharp"),
    }  # fmt: skip


def test_the_cores_model_makes_the_engines_pictures(client: Client, picture: np.ndarray) -> None:
    run = client.run(graph())
    assert run.end[0] == "execution_success", run.end
    sharp = pictures(client, run, "6")
    small = torch.from_numpy(picture)[None].expand(COUNT, -1, -1, -1).float() / 255
    with torch.inference_mode():
        expected = (upscaled(small, seed=5) * 255).numpy()
    assert len(sharp) == COUNT and sharp[0].shape == (4 * SIDE, 4 * SIDE, 3)
    assert max(np.abs(a - b).max() for a, b in zip(sharp, expected, strict=True)) < 1.5
    assert run.values("4") == [1, 2]
