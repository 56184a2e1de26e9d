"""Matrix-Game 2 in a MODEL of the real core, which knows neither its layers nor a model like it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.errors import BadInput
from longtake.model.checkpoint import open_checkpoint
from longtake.model.dit import WanDiT
from longtake.model.families.table import BY_KEY
from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.path import CameraPath
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.family_files import matrix_game_state
from longtake.tests.support.tiny_model import CHUNKS, randn

FRAMES, ROWS, COLUMNS = 9, 4, 6


def path(*entries: tuple[int, str]) -> CameraPath:
    return path_of_motions([TimedMotion(f, read_motion(t, 1)) for f, t in entries], 1 / 3)


@torch.inference_mode()
def test_a_rollout_on_the_hosts_model_is_that_on_our_own_tree(core: Any, tmp_path: Path) -> None:
    """Built by the host from the file, with the conditioning of its own picture node."""
    from longtake.nodes import host
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline
    from longtake.nodes.conditioning.reference import reference
    from longtake.nodes.length import snapped_length
    from longtake.nodes.models.model_facts import facts
    from longtake.nodes.runtime.resolved_model import denoiser

    weights, file = matrix_game_state(), tmp_path / "base_distill.safetensors"
    save_file({f"model.{name}": tensor for name, tensor in weights.items()}, file)
    checkpoint = open_checkpoint(file)
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), torch.float32)
    engine: Denoiser = denoiser(model)
    assert engine.config == checkpoint.recognition.config
    assert facts(model).family.key == "matrix-game-2"  # by its architecture: no text goes in
    mask = torch.ones(1, 1, FRAMES, ROWS, COLUMNS)
    mask[:, :, 0] = 0
    options: dict[str, Any] = {
        "concat_latent_image": randn(1, 16, FRAMES, ROWS, COLUMNS, seed=3), "concat_mask": mask,
    }  # fmt: skip
    words: list[Any] = [[randn(1, 9, 4096, seed=4), options]]
    with pytest.raises(BadInput, match="through CLIP vision"):
        reference(engine.config, words)
    seen = SimpleNamespace(penultimate_hidden_states=randn(1, 257, 1280, seed=2))
    options["clip_vision_output"] = seen
    length = snapped_length(33, "frames", 12.0, 3, 0)
    settings = RolloutSettings(
        prompt_timeline(words, engine.config, length), ROWS, COLUMNS, CHUNKS, length=FRAMES, seed=5,
        cache=WindowSink(BY_KEY["matrix-game-2"].preset.window_frames),
        reference=reference(engine.config, words),
        camera=path((0, "forward"), (3, "pan left"), (6, "left, tilt up")),
    )  # fmt: skip

    def latents(of: Denoiser) -> Tensor:
        return torch.cat([chunk.latents for chunk in generate(settings, of)])

    plain = WanDiT(checkpoint.recognition.config)
    unread = checkpoint.recognition.unused
    plain.load_state_dict({name: t for name, t in weights.items() if name not in unread})
    ours = latents(local_denoiser(plain.eval(), checkpoint.recognition.config))
    torch.testing.assert_close(latents(engine), ours, rtol=0, atol=1e-4)
