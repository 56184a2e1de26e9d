"""A recurrent model on the canvas: loaded by the usual node, sampled, decoded, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.recurrent.config import RecurrentConfig
from longtake.model.recurrent.file import recurrent_header
from longtake.model.recurrent.network import RecurrentNetwork
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.loop import generate
from longtake.tests.support.node_bench import CONFIG, Bench
from longtake.tests.support.tiny_model import randomise

SIZES = RecurrentConfig(dim=8, num_layers=2, text_dim=CONFIG.text_dim)
CHOICES = {"family": "auto", "weights": "auto", "weight_dtype": "auto", "fps": "from model"}


def network() -> RecurrentNetwork:
    tree = RecurrentNetwork(SIZES)
    randomise(tree, 0)
    return tree.eval().requires_grad_(False)


@pytest.fixture
def model(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A MODEL from a file of the models folder."""
    folder = tmp_path / "models" / "diffusion_models"
    folder.mkdir(parents=True)
    save_file(network().state_dict(), folder / "recurrent.safetensors", recurrent_header())
    monkeypatch.chdir(tmp_path)
    return bench.run("LongtakeLoadModel", model_name="recurrent.safetensors", **CHOICES)[0]


def shot(bench: Bench, model: Any, **inputs: Any) -> Any:
    """A rollout of 33 frames in three chunks, with the prompts of the demo."""
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    size = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
    return bench.run("LongtakeSampler", model=model, prompts=prompts, **size, **inputs)[0]


def test_a_shot_from_the_canvas_is_that_of_the_engine(bench: Bench, model: Any) -> None:
    rollout = shot(bench, model)
    chunks = list(rollout.chunks)
    engine = generate(rollout.settings, local_denoiser(network(), SIZES))
    for ours, theirs in zip(chunks, engine, strict=True):
        assert torch.equal(ours.latents, theirs.latents)
    assert chunks[-1].kv_bytes == planned_bytes(rollout.settings, SIZES, torch.float32)


def test_its_frames_are_decoded_by_the_demos_vae(bench: Bench, model: Any) -> None:
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [frames] = bench.run("LongtakeVAEDecode", rollout=shot(bench, model), vae=vae)
    assert bench.collect(frames).shape == (33, 32, 32, 3)


def test_it_is_known_after_a_restart(bench: Bench, model: Any) -> None:
    from longtake.nodes.models.identity import identity
    from longtake.nodes.models.model_facts import facts

    assert identity(model) == identity(model.clone()) and identity(model)[1] is None
    assert facts(model).assumed == "a recurrent model: its header says so"


def test_the_loader_says_that_it_fits(bench: Bench, model: Any) -> None:
    from longtake.nodes.models.fit_route import fit_of

    verdict = fit_of({"node": "LongtakeLoadModel", "model_name": "recurrent.safetensors"})
    assert verdict.text.startswith("A recurrent model of") and verdict.fits


def test_what_needs_attention_is_refused_in_a_sentence(bench: Bench, model: Any) -> None:
    [window] = bench.run("LongtakeKVCacheSettings", policy="window + sink", window_frames=6,
                         sink_frames=0)  # fmt: skip
    with pytest.raises(BadInput, match="its history is a state"):
        shot(bench, model, kv_cache=window)
    with pytest.raises(BadInput, match="connect a Wan model"):
        bench.run("LongtakeLoadVace", model=model, vace_name="recurrent.safetensors")
