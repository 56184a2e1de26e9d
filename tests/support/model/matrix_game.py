"""Small models of Matrix-Game 2's kind, whose weights any program can make again."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from longtake.model.action_sizes import ActionSizes
from longtake.model.camera.actions import DEGREES
from longtake.model.config import DiTConfig
from longtake.model.dit import WanDiT
from longtake.model.image_embedding import LayerNorm
from longtake.samplers.camera.path import CameraPath
from longtake.samplers.noise import addressed_noise

SEED = 21


def addressed_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Random weights by their names and shapes: matrices keep the size of what they multiply."""
    in_order = enumerate(sorted(shapes.items()))
    return {name: _weight(name, shape, place) for place, (name, shape) in in_order}


def _weight(name: str, shape: tuple[int, ...], place: int) -> Tensor:
    noise = addressed_noise(SEED, place, 0, "weights", shape)
    if name.endswith("modulation"):
        return 0.5 * noise
    if len(shape) > 1:
        return noise / noise[0].numel() ** 0.5
    return 0.2 * noise + float(_is_norm(name))


def _is_norm(name: str) -> bool:
    """Whether a vector is the scale of a norm, which is near 1."""
    norms = ("norm", "mouse_mlp.3.", "img_emb.proj.0.", "img_emb.proj.4.")
    return name.endswith("weight") and any(part in name for part in norms)


SMALL_ACTIONS = DiTConfig(
    dim=24, ffn_dim=32, num_heads=2, num_layers=3, text_dim=0, in_channels=36, out_channels=16,
    camera="keys", action=ActionSizes(blocks=2, keys=4, embed=8, width=128),
)  # fmt: skip
FEATURES = 20  # of the small model's CLIP vision


def random_matrix_game(config: DiTConfig = SMALL_ACTIONS) -> WanDiT:
    """A model with addressed weights, whose picture has few features."""
    dit = WanDiT(config)
    first, last = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, config.dim)
    parts = LayerNorm(FEATURES), first, nn.GELU(), last, LayerNorm(config.dim)
    dit.img_emb.proj = nn.Sequential(*parts)
    shapes = {name: tuple(parameter.shape) for name, parameter in dit.named_parameters()}
    dit.load_state_dict(addressed_weights(shapes))
    return dit.eval().requires_grad_(False)


def walk(keys: Tensor, mouse: Tensor) -> CameraPath:
    """A path whose motion at each latent frame is that of `keys` (f, 4 or 2) and `mouse` (f, 2)."""
    steps = [_step(pressed, look) for pressed, look in zip(keys, mouse.double(), strict=True)]
    return CameraPath(tuple(range(len(steps))), torch.stack(steps), (0.0,) * len(steps))


def _step(pressed: Tensor, look: Tensor) -> Tensor:
    """The motion (4, 4) of a latent frame: look up, turn right, and walk."""
    up, right = (math.radians(4 * DEGREES * float(value)) for value in look)
    forward = math.cos(up) * math.sin(right), -math.sin(up), math.cos(up) * math.cos(right)
    ahead = torch.tensor(forward, dtype=torch.float64)
    across = torch.tensor([math.cos(right), 0.0, -math.sin(right)], dtype=torch.float64)
    step = torch.eye(4, dtype=torch.float64)
    step[:3, :3] = torch.stack([across, torch.linalg.cross(ahead, across), ahead], 1)
    front, back, left, to_right = [*pressed.tolist(), 0.0, 0.0][:4]
    move = torch.tensor([to_right - left, 0.0, front - back], dtype=torch.float64)
    step[:3, 3] = move / move.norm().clamp(min=1.0)
    return step
