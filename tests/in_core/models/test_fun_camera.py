"""Fun-Camera: a whole clip in one chunk is the core's own model with its own camera conditions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.model.camera.frames import PlacedCameras
from longtake.model.camera.fun import ray_maps
from longtake.model.checkpoint import open_checkpoint
from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.path import CameraPath, Lens
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.denoiser import Denoiser
from longtake.samplers.loop import generate
from longtake.samplers.schedule.rows import full_sequence
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.family_files import fun_camera_state
from longtake.tests.support.tiny_model import randn

FRAMES, ROWS, COLUMNS = 21, 4, 6
WIDTH, HEIGHT = 8 * COLUMNS, 8 * ROWS
TURN = 60 * 4 * 4 / 81  # degrees a second of the core's roll at speed 1: 60 degrees of 81 pictures
MOVES = {  # the core's move, and ours at the same speed
    "Pan Left": "left", "Pan Up": "up", "Zoom Out": "back", "Static": "still",
    "ClockWise (CW)": f"roll right {TURN}", "Anti Clockwise (ACW)": f"roll left {TURN}",
}  # fmt: skip


def lens() -> Lens:
    """The lens of the core's node by default: it widens one side to 16 to 9."""
    return Lens(HEIGHT * 16 / 9 * 0.5 / WIDTH, 0.5)


def path(move: str) -> CameraPath:
    return path_of_motions([TimedMotion(0, read_motion(MOVES[move], 1))], 0.25, lens())


def conditions(core: Any, move: str) -> torch.Tensor:
    """What the core's node makes (1, 24, f, h, w); its zoom is twice its pan."""
    from comfy_extras.nodes_camera_trajectory import WanCameraEmbedding

    speed = 0.5 if move.startswith("Zoom") else 1.0
    return WanCameraEmbedding.execute(move, WIDTH, HEIGHT, 81, speed).result[0]


@pytest.mark.parametrize("move", MOVES)
def test_the_rays_of_a_path_are_the_cores_camera_conditions(core: Any, move: str) -> None:
    ours = path(move)
    lenses = torch.tensor([lens().values] * 4 * FRAMES)
    cameras = PlacedCameras(ours.placed_pictures(range(FRAMES), 4), lenses)
    maps = ray_maps(cameras, (ROWS, COLUMNS))
    theirs = conditions(core, move)[0].transpose(0, 1)
    torch.testing.assert_close(maps, theirs.float(), rtol=0, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["2.1", "2.2"])
def test_our_rollout_is_the_cores_own_euler_steps(core: Any, tmp_path: Path, kind: str) -> None:
    """All frames at once, 2 steps: velocities by the core's apply_model, with its own concat."""
    from longtake.nodes import host
    from longtake.nodes.conditioning.reference import reference
    from longtake.nodes.runtime.resolved_model import denoiser
    from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
    from longtake.samplers.noise import addressed_noise

    file = tmp_path / "Wan2.1-Fun-V1.1-1.3B-Control-Camera.safetensors"
    save_file(fun_camera_state(clip=kind == "2.1"), file)
    checkpoint = open_checkpoint(file)
    assert checkpoint.recognition.config.camera == "fun"
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)
    assert type(model.model) is core.model_base.WAN21_Camera
    mask = torch.ones(1, 1, FRAMES, ROWS, COLUMNS)
    mask[:, :, 0] = 0
    options: dict[str, Any] = {
        "concat_latent_image": randn(1, 16, FRAMES, ROWS, COLUMNS, seed=3), "concat_mask": mask,
    }  # fmt: skip
    clip: dict[str, Any] = {}
    if kind == "2.1":
        seen = SimpleNamespace(penultimate_hidden_states=randn(1, 257, 1280, seed=2))
        options["clip_vision_output"] = seen
        clip["clip_fea"] = seen.penultimate_hidden_states
    context = randn(1, 9, checkpoint.recognition.config.text_dim, seed=4)
    engine: Denoiser = denoiser(model)
    levels = (1.0, 0.6, 0.0)
    timeline = PromptTimeline((TimedPrompt(0, context[0], "a"),), torch.zeros_like(context[0]))
    settings = RolloutSettings(
        timeline, ROWS, COLUMNS, full_sequence(levels), length=FRAMES, seed=5,
        reference=reference(engine.config, [[context, options]]), camera=path("Pan Left"),
    )  # fmt: skip
    ours = torch.cat([chunk.latents for chunk in generate(settings, engine)])
    still = replace(settings, camera=None)
    other = torch.cat([chunk.latents for chunk in generate(still, engine)])
    assert (other - ours).abs().max() > 1e-2
    given = {**options, "camera_conditions": conditions(core, "Pan Left")}
    by_rays = replace(still, reference=reference(engine.config, [[context, given]]))
    same = torch.cat([chunk.latents for chunk in generate(by_rays, engine)])
    torch.testing.assert_close(same, ours, rtol=1e-4, atol=1e-4)

    host.claim([model], 0)
    x = torch.stack([addressed_noise(5, f, 0, "start", (16, ROWS, COLUMNS)) for f in range(FRAMES)])
    x = x.transpose(0, 1).unsqueeze(0)
    kept = {name: one.clone() if hasattr(one, "clone") else one for name, one in options.items()}
    beside = model.model.concat_cond(noise=x, device=x.device, **kept)
    for now, after in zip(levels, levels[1:], strict=False):
        clean = model.model.apply_model(
            x, torch.tensor([now]), c_concat=beside, c_crossattn=context,
            camera_conditions=conditions(core, "Pan Left").float(), **clip,
        )  # fmt: skip
        x = x + (after - now) * (x - clean) / now
    torch.testing.assert_close(ours, x[0].transpose(0, 1).float(), rtol=1e-4, atol=1e-3)
