"""AnyFlow FAR by its preset, against what its authors' own code made of the same inputs."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.model.families.table import BY_KEY
from longtake.model.preset import overridden
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.tests.support.model import anyflow
from longtake.tests.support.samplers.authors import FOLDER, preset_rollout

RUN = load_file(FOLDER / "anyflow_far.safetensors")
CLOSE = {"rtol": 0, "atol": 5e-5}


@torch.inference_mode()
def rollout(expected: Tensor, steps: int, **changes: Any) -> Tensor:
    """Ours of the size of what is `expected`."""
    model = local_denoiser(anyflow.model(), anyflow.FAR)
    preset = overridden(BY_KEY["anyflow-far"].preset, steps=steps)
    return preset_rollout(RUN["text"], expected, model, preset, **changes)


def test_a_shot_is_the_authors_own() -> None:
    """All 21 latent frames of their training; a chunk has no multiple of 128 tokens."""
    torch.testing.assert_close(rollout(RUN["latents"], 4), RUN["latents"], **CLOSE)


def test_a_shot_with_guidance_is_the_authors_own() -> None:
    guided = rollout(RUN["guided"], 2, guidance=cfg(3.0))
    torch.testing.assert_close(guided, RUN["guided"], **CLOSE)
