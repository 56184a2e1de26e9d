"""The example for SeedVR2, run in the real core over small random files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.tests.in_core.support.client import Client, Run
from longtake.tests.in_core.support.outputs import frames_of
from longtake.tests.in_core.support.places import ROOT
from longtake.tests.support.clips import write_clip
from longtake.tests.support.tiny_model import randomise

EXAMPLE = ROOT / "example_workflows" / "community" / "api" / "seedvr2.json"
FRAMES, WIDTH, HEIGHT = 11, 48, 32
CHANNELS = 128
SAMPLER = "10"


@pytest.fixture
def example(client: Client, core: Any) -> Iterator[dict[str, Any]]:
    """The example, with files of the names that it gives."""
    api: dict[str, Any] = json.loads(EXAMPLE.read_text("utf-8"))
    models = client.base / "models"
    network = models / "diffusion_models" / api["8"]["inputs"]["unet_name"]
    vae = models / "vae" / api["5"]["inputs"]["vae_name"]
    clip = client.base / "input" / api["1"]["inputs"]["file"]
    vae.parent.mkdir(exist_ok=True)
    save_file(random_network(), network)
    save_file(random_vae(core), vae)
    write_clip(clip, FRAMES, size=(WIDTH, HEIGHT))
    yield api
    for file in (network, vae, clip):
        file.unlink()


def random_network() -> dict[str, torch.Tensor]:
    """A SeedVR2 of 32 layers as the published one, but narrow."""
    import comfy.ops
    from comfy.ldm.seedvr.model import NaDiT

    network = NaDiT(
        norm_eps=1e-5, num_layers=32, mlp_type="swiglu", vid_dim=CHANNELS, heads=1,
        vid_out_norm=True, dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    randomise(network, 1)
    state = {name: x.contiguous() for name, x in network.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    for name in ("positive_conditioning", "negative_conditioning"):
        state[name] = torch.randn(state[name].shape, generator=generator)
    return state


def random_vae(core: Any) -> dict[str, torch.Tensor]:
    """Its VAE, narrow too."""
    import comfy.ldm.seedvr.vae as vae

    from longtake.tests.in_core.support.small_seedvr2_pack import WIDTHS

    before, vae.BYTEDANCE_BLOCK_OUT_CHANNELS = vae.BYTEDANCE_BLOCK_OUT_CHANNELS, WIDTHS
    try:
        module = vae.VideoAutoencoderKLWrapper()
    finally:
        vae.BYTEDANCE_BLOCK_OUT_CHANNELS = before
    randomise(module, 3)
    return {name: x.contiguous() for name, x in module.state_dict().items()}


def test_the_example_enlarges_a_finished_shot(client: Client, example: dict[str, Any]) -> None:
    run = client.run(example)
    assert run.end[0] == "execution_success", run.end
    [video] = [item for output in run.outputs.values() for item in output.get("images", [])]
    frames = frames_of(client.base / "output" / video["subfolder"] / video["filename"])
    assert len(frames) == FRAMES and frames[0].shape == (2 * HEIGHT, 2 * WIDTH, 3)


def test_clips_of_a_shot_are_cross_faded(client: Client, example: dict[str, Any]) -> None:
    """The example leaves the length of clips to the core, which here takes the whole shot."""
    whole = sampled(client.run(example))
    example["7"]["inputs"] |= {"chunking_mode": "manual", "chunking_mode.frames_per_chunk": 5}
    run = client.run(example)
    assert run.end[0] == "execution_success", run.end
    assert sampled(run) == 3 * whole  # 4 latent frames in clips of 2 that share 1


def sampled(run: Run) -> int:
    """How many steps of the sampler were told of."""
    told = (data for name, data in run.messages if name == "progress")
    return sum(data["node"] == SAMPLER and data["value"] == data["max"] for data in told)
