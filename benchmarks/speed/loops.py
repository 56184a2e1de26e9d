"""The plain loops that our engine is measured against.

Each is as short as the code that people start from: no journal, no stream, no plan, no guidance,
and no camera. So they need the networks of `plain_networks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from ...attention.dense import WholeSequence, block_causal_mask
from ...attention.rope import rotation
from ...model.config import PATCH
from ...model.dit import predict, project_text
from ...model.families.names import from_diffusers
from ...samplers.conditioning.prompts import TimedPrompt
from .._shared.demo_shot import CHUNK, LADDER, DemoShot, Marks, Networks, Part, Play, play_chunks
from .plain_model import PlainCache, PlainModel

Velocity = Callable[[Tensor, Tensor], Tensor]
"""The flow of x (1, f, c, h, w) at timesteps t (1, f), all frames passing the model."""


def straight_loop(networks: Networks, times: torch.dtype = torch.float64) -> Play:
    """Self-Forcing's `pipeline/causal_inference.py`: a loop over chunks with a KV cache.

    The published loop knows one prompt. Here a new one empties the cache of the prompt's keys.
    Timesteps are embedded in the dtype `times`.
    """
    return partial(_play_straight, networks, PlainModel(networks.tree, networks.config, times))


def _play_straight(
    networks: Networks, model: PlainModel, shot: DemoShot, marks: Marks
) -> Iterator[Part]:
    tokens = shot.rows * shot.columns // PATCH**2
    noise, last = shot.noise, ""
    cache = PlainCache.of(networks.config, shot.latents * tokens, noise)

    def denoise(first: int, prompt: TimedPrompt) -> Tensor:
        nonlocal last
        if prompt.text != last:
            cache.prompt.clear()
            last = prompt.text
        context, chunk = prompt.values[None], slice(first, first + CHUNK)
        x = noise[0, chunk].transpose(0, 1)[None]  # (1, c, f, h, w)
        for step, (level, after) in enumerate(zip(LADDER, LADDER[1:], strict=False)):
            t = torch.full((CHUNK,), 1000 * level, dtype=torch.float64)
            flow = model(x, t, context, cache, first)
            x = (x.double() - level * flow.double()).type_as(x)
            if after:
                fresh = noise[step + 1, chunk].transpose(0, 1)[None]
                x = (1 - after) * x + after * fresh
        model(x, torch.zeros(CHUNK), context, cache, first)  # once more, for a clean cache
        return x[0].transpose(0, 1).contiguous()

    return play_chunks(shot, marks, networks.vae, denoise)


def recompute(networks: Networks) -> Play:
    """Our transformer without a cache: every step passes over the whole past."""
    return partial(_play_recomputed, networks)


def _play_recomputed(networks: Networks, shot: DemoShot, marks: Marks) -> Iterator[Part]:
    text = project_text(networks.tree, shot.prompts.at(0).values[None, None])

    def open_chunk(frames: int) -> Velocity:
        rows, columns = shot.rows // PATCH, shot.columns // PATCH
        by = rotation(range(frames), rows, columns, networks.config.head_dim)
        attention = WholeSequence(by, block_causal_mask(frames, rows * columns, CHUNK))
        return lambda x, t: predict(networks.tree, x, t, text, attention).velocity

    return play_chunks(shot, marks, networks.vae, _Recomputing(shot, open_chunk))


def recompute_by_diffusers(networks: Networks) -> Play:
    """The same over diffusers' block-causal Wan transformer, the class of SkyReels-V2.

    ImportError without diffusers.
    """
    import diffusers

    config, build = networks.config, cast("Any", diffusers).SkyReelsV2Transformer3DModel
    model = build(
        num_attention_heads=config.num_heads, attention_head_dim=config.head_dim,
        text_dim=config.text_dim, ffn_dim=config.ffn_dim, num_layers=config.num_layers,
        num_frame_per_block=CHUNK,
    )  # fmt: skip
    ours = networks.tree.state_dict()
    model.load_state_dict({name: ours[from_diffusers(name)] for name in model.state_dict()})
    return partial(_play_diffusers, networks, model.eval().requires_grad_(False))


def _play_diffusers(networks: Networks, model: Any, shot: DemoShot, marks: Marks) -> Iterator[Part]:
    context = shot.prompts.at(0).values[None]

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        [out] = model(
            x.transpose(1, 2), t, context, enable_diffusion_forcing=True, return_dict=False
        )
        flow: Tensor = out.transpose(1, 2)
        return flow

    return play_chunks(shot, marks, networks.vae, _Recomputing(shot, lambda frames: velocity))


class _Recomputing:
    """Denoises a chunk with the clean past before it, which passes the model at every step."""

    def __init__(self, shot: DemoShot, open_chunk: Callable[[int], Velocity]) -> None:
        self.noise, self.open_chunk = shot.noise, open_chunk
        self.past = self.noise[0, :0]

    def __call__(self, first: int, prompt: TimedPrompt) -> Tensor:
        chunk = slice(first, first + CHUNK)
        velocity, x = self.open_chunk(first + CHUNK), self.noise[0, chunk]
        t = torch.zeros(1, first + CHUNK, dtype=torch.float64)
        for step, (level, after) in enumerate(zip(LADDER, LADDER[1:], strict=False)):
            t[:, first:] = 1000 * level
            flow = velocity(torch.cat([self.past, x])[None], t)[0, first:]
            x = x - level * flow
            if after:
                x = (1 - after) * x + after * self.noise[step + 1, chunk]
        self.past = torch.cat([self.past, x])
        return x
