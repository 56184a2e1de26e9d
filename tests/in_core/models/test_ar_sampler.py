"""The core's own AR sampler and our loop on the very same noise: the same latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.cache.policy import FullHistory
from longtake.model.checkpoint import open_checkpoint
from longtake.samplers import noise as latent_noise
from longtake.samplers.conditioning.known_frames import from_latents as known_frames
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.samplers.schedule.levels import few_step_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.samplers.solvers.single_step import ReNoise
from longtake.tests.support.model.family_files import state
from longtake.tests.support.tiny_model import randn

ROWS, COLUMNS, SEED, BLOCKS = 4, 6, 11, 3
LADDER = few_step_ladder((1000.0, 750.0, 500.0, 250.0), 5.0)


@pytest.mark.parametrize("given", [0, 1], ids=["from noise", "from a picture"])
@pytest.mark.parametrize("chunk", [1, 2, 3])
@torch.inference_mode()
def test_the_cores_ar_sampler_gives_the_same_on_the_same_noise(
    core: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, given: int
) -> None:
    """Its re-noising is recorded, not drawn again: `randn_like` fills in the order of memory, so
    what a seed gives depends on the strides of what the core's forward returned.
    """
    import comfy.sample
    import comfy.samplers

    from longtake.nodes import host
    from longtake.nodes.runtime.resolved_model import denoiser

    save_file(state(), tmp_path / "self_forcing.safetensors")
    checkpoint = open_checkpoint(tmp_path / "self_forcing.safetensors")
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)
    length = given + BLOCKS * chunk
    start = randn(length, 16, ROWS, COLUMNS, seed=1)
    context = randn(1, 9, checkpoint.recognition.config.text_dim, seed=2)
    picture = randn(1, 16, ROWS, COLUMNS, seed=3)  # a first latent
    if given:
        raw = model.model.process_latent_out(picture.transpose(0, 1).unsqueeze(0))
        model.model_options["transformer_options"]["ar_config"] = {"initial_latent": raw}
    drawn: list[Tensor] = []  # (f, c, h, w), after each step but a block's last

    def record(like: Tensor) -> Tensor:
        fresh = torch.empty_like(like).normal_()
        drawn.append(fresh[0].transpose(0, 1))
        return fresh

    with monkeypatch.context() as patched:
        patched.setattr(torch, "randn_like", record)
        sampler = comfy.samplers.ksampler("ar_video", {"num_frame_per_block": chunk})
        video = start.transpose(0, 1).unsqueeze(0)
        positive = [[context, {}]]
        made = comfy.sample.sample_custom(
            model, video, 1.0, sampler, torch.tensor(LADDER), positive, positive,
            torch.zeros_like(video), seed=SEED, disable_pbar=True,
        )  # fmt: skip
    theirs = model.model.process_latent_in(made)[0].transpose(0, 1)
    steps = len(LADDER) - 2
    assert len(drawn) == BLOCKS * steps

    def noise(seed: int, frames: range, step: int, purpose: str, shape: Any) -> Tensor:
        if purpose == "start":
            return start[frames.start : frames.stop]
        if step > steps:  # the last step re-noises to level 0
            return torch.zeros(len(frames), *shape)
        block, within = divmod(frames.start - given, chunk)
        return drawn[block * steps + step - 1][within : within + len(frames)]

    monkeypatch.setattr(latent_noise, "frame_noise", noise)
    settings = RolloutSettings(
        PromptTimeline((TimedPrompt(0, context[0], "a"),), torch.zeros_like(context[0])),
        ROWS, COLUMNS, causal_chunks(LADDER, chunk), length=length, seed=SEED, solver=ReNoise(),
        cache=FullHistory(), guidance=cfg(1.0), known_frames=known_frames(picture[:given]),
    )  # fmt: skip
    ours = torch.cat([c.latents for c in generate(settings, denoiser(model))])
    assert theirs.std() > 0.3
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)
