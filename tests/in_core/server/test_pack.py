"""The pack as the core sees it: its upscale models on our frames, the Doctor, files it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.graphs import DECODE, SAVE, collected, example, node
from longtake.tests.in_core.support.outputs import frame_count, pictures, saved


def esrgan(scale: int) -> dict[str, torch.Tensor]:
    """A tiny random model of the kind that users download (ESRGAN's compact form)."""
    torch.manual_seed(0)
    width, layers = 8, [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.PReLU(8)]
    layers += [torch.nn.Conv2d(width, width, 3, padding=1), torch.nn.PReLU(width)]
    layers += [torch.nn.Conv2d(width, 3 * scale**2, 3, padding=1)]
    return {
        f"body.{key}": value for key, value in torch.nn.Sequential(*layers).state_dict().items()
    }


@pytest.fixture
def upscale_model(base: Path) -> str:
    """The name of an upscale model that the core can load."""
    folder = base / "models" / "upscale_models"
    folder.mkdir(exist_ok=True)
    save_file(esrgan(2), folder / "tiny.safetensors")
    return "tiny.safetensors"


def test_the_hosts_upscale_model_gives_the_same_as_its_own_node(
    client: Client, upscale_model: str
) -> None:
    pytest.importorskip("spandrel")
    workflow = example(seed=31)
    del workflow[SAVE]
    workflow["20"] = node("UpscaleModelLoader", model_name=upscale_model)
    workflow["21"] = node(
        "LongtakeUpscale", frames=[DECODE, 0], upscale_model=["20", 0], scale=0.0, tile=512
    )
    workflow["22"] = collected("21")
    workflow["23"] = node("SaveImage", images=["22", 0], filename_prefix="core/ours_large")
    workflow["24"] = collected(DECODE)
    workflow["25"] = node("ImageUpscaleWithModel", upscale_model=["20", 0], image=["24", 0])
    workflow["26"] = node("SaveImage", images=["25", 0], filename_prefix="core/theirs_large")
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    ours, theirs = pictures(client, run, "23"), pictures(client, run, "26")
    assert len(ours) == len(theirs) == 69 and ours[0].shape == (128, 192, 3)
    assert max(int(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)) <= 1
    shown = [data["seq"] for name, data in run.messages if name == "longtake.take.chunk"]
    assert run.values("21")[-1] == 6 and shown == list(range(6))


def test_an_upscaled_shot_is_saved_at_its_size(client: Client, upscale_model: str) -> None:
    pytest.importorskip("spandrel")
    workflow = example(seed=32)
    workflow["20"] = node("UpscaleModelLoader", model_name=upscale_model)
    workflow["21"] = node(
        "LongtakeUpscale", frames=[DECODE, 0], upscale_model=["20", 0], scale=1.5, tile=128
    )
    workflow[SAVE]["inputs"]["frames"] = ["21", 0]
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    video = saved(client, run)
    assert frame_count(video) == 69
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (144, 96)


def test_tiles_blend_as_the_cores_do(core: Any) -> None:
    import comfy.utils

    from longtake.headless.hosts.stand_in.tiles import tiled_scale

    picture = torch.rand(1, 3, 150, 201, generator=torch.Generator().manual_seed(1))
    blur = torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), torch.nn.AvgPool2d(5, 1, 2))
    theirs = comfy.utils.tiled_scale(
        picture, blur, tile_x=64, tile_y=48, overlap=16, upscale_amount=2
    )
    ours = tiled_scale(picture, blur, tile_x=64, tile_y=48, overlap=16, upscale_amount=2)
    torch.testing.assert_close(ours, theirs)


def test_the_doctor_speaks_of_this_core(client: Client) -> None:
    run = client.run({"1": node("LongtakeDoctor")})
    assert run.end[0] == "execution_success", run.end
    [text] = run.outputs["1"]["text"]
    assert text.startswith("All that Longtake needs is here") and f"{client.base}" in text
    again = client.run({"1": node("LongtakeDoctor")})
    assert "1" not in again.cached


@pytest.fixture
def interpolation_model(base: Path, core: Any) -> str:
    """The name of a RIFE model with random weights that the core can load."""
    from comfy_extras.frame_interpolation_models.ifnet import IFNet

    folder = base / "models" / "frame_interpolation"
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    weights = IFNet(head_ch=4, channels=[16, 12, 8, 8, 8]).state_dict()
    weights = {key: 0.05 * torch.randn(w.shape, generator=generator) for key, w in weights.items()}
    save_file(weights, folder / "tiny.safetensors")
    return "tiny.safetensors"


def test_interpolated_chunk_by_chunk_is_what_the_hosts_own_node_makes_of_the_whole(
    client: Client, interpolation_model: str
) -> None:
    workflow = example(seed=31)
    del workflow[SAVE]
    workflow["20"] = node("FrameInterpolationModelLoader", model_name=interpolation_model)
    model = ["20", 0]
    workflow["21"] = node(
        "LongtakeInterpolate", frames=[DECODE, 0], interp_model=model, multiplier=3
    )
    workflow["22"] = collected("21")
    workflow["23"] = node("SaveImage", images=["22", 0], filename_prefix="core/ours_smooth")
    workflow["24"] = collected(DECODE)
    workflow["25"] = node("FrameInterpolate", interp_model=model, images=["24", 0], multiplier=3)
    workflow["26"] = node("SaveImage", images=["25", 0], filename_prefix="core/theirs_smooth")
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    ours, theirs = pictures(client, run, "23"), pictures(client, run, "26")
    assert len(ours) == len(theirs) == 68 * 3 + 1
    assert max(int(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)) <= 1
