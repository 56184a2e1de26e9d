"""The picture of an image-to-video model: what the core itself puts beside the noise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

from longtake.model.checkpoint import open_checkpoint
from longtake.samplers.denoiser import Denoiser
from longtake.samplers.loop import generate
from longtake.samplers.schedule.rows import full_sequence
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.family_files import image_state
from longtake.tests.support.tiny_model import randn

FRAMES, ROWS, COLUMNS = 3, 4, 6


@torch.inference_mode()
def test_our_rollout_is_the_cores_own_euler_steps(core: Any, tmp_path: Path) -> None:
    """All frames at once, 3 steps: velocities by the core's apply_model, with its own concat."""
    from longtake.nodes import host
    from longtake.nodes.conditioning.reference import reference
    from longtake.nodes.runtime.resolved_model import denoiser
    from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
    from longtake.samplers.noise import addressed_noise

    path = tmp_path / "Wan2_1-I2V.safetensors"
    save_file(image_state(), path)
    checkpoint = open_checkpoint(path)
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)
    mask = torch.ones(1, 1, FRAMES, ROWS, COLUMNS)
    mask[:, :, 0] = 0
    seen = SimpleNamespace(penultimate_hidden_states=randn(1, 257, 1280, seed=2))
    options = {"concat_latent_image": randn(1, 16, FRAMES, ROWS, COLUMNS, seed=3),
               "concat_mask": mask, "clip_vision_output": seen}  # fmt: skip
    context = randn(1, 9, checkpoint.recognition.config.text_dim, seed=4)
    engine: Denoiser = denoiser(model)
    levels = (1.0, 0.7, 0.3, 0.0)
    timeline = PromptTimeline((TimedPrompt(0, context[0], "a"),), torch.zeros_like(context[0]))
    settings = RolloutSettings(
        timeline, ROWS, COLUMNS, full_sequence(levels), length=FRAMES, seed=5,
        reference=reference(engine.config, [[context, options]]),
    )  # fmt: skip
    ours = torch.cat([chunk.latents for chunk in generate(settings, engine)])

    host.claim([model], 0)
    x = torch.stack([addressed_noise(5, f, 0, "start", (16, ROWS, COLUMNS)) for f in range(FRAMES)])
    x = x.transpose(0, 1).unsqueeze(0)
    kept = {name: one.clone() if hasattr(one, "clone") else one for name, one in options.items()}
    beside = model.model.concat_cond(noise=x, device=x.device, **kept)
    for now, after in zip(levels, levels[1:], strict=False):
        clean = model.model.apply_model(
            x, torch.tensor([now]), c_concat=beside, c_crossattn=context,
            clip_fea=seen.penultimate_hidden_states,
        )  # fmt: skip
        x = x + (after - now) * (x - clean) / now
    torch.testing.assert_close(ours, x[0].transpose(0, 1).float(), rtol=1e-4, atol=1e-3)


def test_wan_22_has_no_image_branch(core: Any, tmp_path: Path) -> None:
    """Its own workflow may still give CLIP vision features, which nothing may read then."""
    from longtake.nodes import host

    wan_21 = image_state()
    wan_22 = {name: tensor for name, tensor in wan_21.items() if "img" not in name}
    for number, (weights, expected) in enumerate(((wan_21, True), (wan_22, False))):
        path = tmp_path / f"{number}.safetensors"
        save_file(weights, path)
        checkpoint = open_checkpoint(path)
        model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)
        assert host.has_image_branch(model) == expected
