"""Shots of a small random AnyFlow model by diffusers' own pipelines, on the noise of our addresses.

diffusers 0.42 pads queries and keys to a multiple of 128 and hides no padding in a step, which its
authors' own code does not do. So a latent frame has 128 tokens here, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from longtake.model.config import DiTConfig
from longtake.model.dit import WanDiT
from longtake.samplers.noise import addressed_noise
from longtake.tests.support.model.diffusers_names import to_diffusers
from longtake.tests.support.samplers.authors import SEED
from longtake.tests.support.tiny_model import random_dit

FAR = DiTConfig(
    dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=8, in_channels=4, out_channels=4,
    flow_map=True, coarse_past=True,
)  # fmt: skip
SIDES = 16, 32
SHIFT = 5.0
PIXELS = 8  # of a side of a latent place
DELTA = {
    "delta_embedding.0": "condition_embedder.delta_embedder.linear_1",
    "delta_embedding.2": "condition_embedder.delta_embedder.linear_2",
}


@lru_cache
def model(config: DiTConfig = FAR) -> WanDiT:
    """Ours, with random weights."""
    return random_dit(config, 5)


def theirs(config: DiTConfig = FAR) -> Any:
    """diffusers' model with the same weights, every one of them used."""
    import diffusers

    kind = "AnyFlowFARTransformer3DModel" if config.coarse_past else "AnyFlowTransformer3DModel"
    network = getattr(diffusers, kind)(
        num_attention_heads=config.num_heads, attention_head_dim=config.head_dim,
        in_channels=config.in_channels, out_channels=config.out_channels,
        text_dim=config.text_dim, ffn_dim=config.ffn_dim, num_layers=config.num_layers,
    )  # fmt: skip
    weights = model(config).state_dict().items()
    network.load_state_dict({_name(name): weight for name, weight in weights})
    return network.eval().requires_grad_(False)


def _name(name: str) -> str:
    layer, _, end = name.rpartition(".")
    if layer in DELTA:
        return f"{DELTA[layer]}.{end}"
    return name if name.startswith("far_patch_embedding") else to_diffusers(name)


def start_noise(frames: int) -> Tensor:
    """The noise (f, c, h, w) that a shot of ours begins with."""
    size = FAR.in_channels, *SIDES
    return torch.stack([addressed_noise(SEED, f, 0, "start", size) for f in range(frames)])


def shot(text: Tensor, chunks: Sequence[int], steps: int, **more: Any) -> Tensor:
    """Latents (f, c, h, w) of the causal pipeline, by chunks of so many latent frames.

    `more` are further arguments, such as `video_latents` (1, f, c, h, w) that are given.
    """
    return _run("AnyFlowFARPipeline", FAR, text, sum(chunks), steps, chunk_partition=[*chunks],
                **more)  # fmt: skip


def whole_clip(config: DiTConfig, text: Tensor, frames: int, steps: int) -> Tensor:
    """Latents (f, c, h, w) of the pipeline that makes all frames at once."""
    return _run("AnyFlowPipeline", config, text, frames, steps)


def _run(  # noqa: PLR0913
    name: str, config: DiTConfig, text: Tensor, frames: int, steps: int, **more: Any
) -> Tensor:
    import diffusers

    scheduler = diffusers.FlowMapEulerDiscreteScheduler(shift=SHIFT)
    pipeline = getattr(diffusers, name)(None, None, theirs(config), None, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    rows, columns = SIDES
    made = pipeline(
        prompt_embeds=text[None], height=PIXELS * rows, width=PIXELS * columns,
        num_frames=4 * frames - 3, num_inference_steps=steps,
        latents=start_noise(frames).transpose(0, 1)[None], output_type="latent", **more,
    )  # fmt: skip
    latents: Tensor = made.frames[0].transpose(0, 1)
    return latents
