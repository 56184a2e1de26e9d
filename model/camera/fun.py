"""Fun-Camera's camera: rays of every pixel of every picture, added to the embedded patches.

Rays are told by their moment, origin x direction, and their direction. A latent frame has those of
its four pictures; the first one has its only picture four times. The layers are the host's own.
Source: ComfyUI `comfy/ldm/wan/model.py` (WanCamAdapter), `comfy_extras/nodes_camera_trajectory.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...machine.uploads import upload
from ..config import FRAMES_PER_LATENT, PATCH, DiTConfig
from ..hooks import Hooks
from .frames import PlacedCameras
from .plucker import CPU, PIXELS, RAY, pixel_directions

FULL_STEP = 1.5 / 81  # units of a picture's step: the host's pan at speed 1 over 81 pictures
CHANNELS = FRAMES_PER_LATENT * RAY * PIXELS**2


class Residual(nn.Module):
    """Two convolutions beside their input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(dim, dim, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Features (f, c, h, w)."""
        both: Tensor = self.conv2(F.relu(self.conv1(x))) + x
        return both


class Adapter(nn.Module):
    """The layers with the names that the host gives them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, dim, PATCH, PATCH)
        self.residual_blocks = nn.Sequential(Residual(dim))


def add_fun_layers(tree: Any, config: DiTConfig, linear: Callable[[int, int], nn.Module]) -> None:
    """Add the camera's adapter to a module tree; its layers are convolutions."""
    tree.control_adapter = Adapter(config.dim)


def ray_maps(cameras: PlacedCameras, size: tuple[int, int], device: torch.device = CPU) -> Tensor:
    """Moments and directions (f, 24, h, w), channels first, then pictures; `size` is in cells.

    There are four cameras for each latent frame.
    """
    poses = upload(cameras.poses.float(), device)
    directions = pixel_directions(cameras.lenses, size, device) @ poses[:, :3, :3].transpose(1, 2)
    origins = (FRAMES_PER_LATENT * FULL_STEP * poses[:, None, :3, 3]).expand_as(directions)
    both = torch.cat([torch.linalg.cross(origins, directions), directions], -1)
    maps: Tensor = rearrange(
        both, "(f k) (h w) c -> f (c k) h w", k=FRAMES_PER_LATENT, h=PIXELS * size[0]
    )
    return maps


def adapt(tree: Any, maps: Tensor) -> Tensor:
    """The addition (f, s, c) to embedded patches, of ray maps (f, 24, h, w)."""
    adapter = tree.control_adapter
    features = adapter.residual_blocks(adapter.conv(F.pixel_unshuffle(maps, PIXELS)))
    addition: Tensor = rearrange(features, "f c h w -> f (h w) c")
    return addition


class RayAddition:
    """The addition for the latent frames of one chunk, computed once, one frame after another.

    `maps` gives the rays (1, 24, h, w) of a frame, by its number in the chunk, on a device.
    """

    def __init__(self, tree: Any, frames: int, maps: Callable[[int, torch.device], Tensor]) -> None:
        self._tree, self._frames, self._maps = tree, frames, maps
        self._addition: Tensor | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        """Add to tokens (b, f, s, c)."""
        if self._addition is None:
            device, dtype = tokens.device, tokens.dtype
            frames = range(self._frames)
            parts = [adapt(self._tree, self._maps(i, device).to(dtype)) for i in frames]
            self._addition = torch.cat(parts).to(dtype)
        return tokens + self._addition


def fun_hooks(tree: Any, cameras: PlacedCameras, size: tuple[int, int]) -> Hooks:
    """Add the rays of all pictures to the embedded patches."""

    def maps(frame: int, device: torch.device) -> Tensor:
        at = slice(FRAMES_PER_LATENT * frame, FRAMES_PER_LATENT * (frame + 1))
        return ray_maps(PlacedCameras(cameras.poses[at], cameras.lenses[at]), size, device)

    return Hooks(patches=(RayAddition(tree, len(cameras.poses) // FRAMES_PER_LATENT, maps),))


def ray_hooks(tree: Any, rays: Tensor) -> Hooks:
    """Add given rays (f, 24, h, w), such as the host's `camera_conditions`."""

    def maps(frame: int, device: torch.device) -> Tensor:
        return upload(rays[frame : frame + 1], device)

    return Hooks(patches=(RayAddition(tree, len(rays), maps),))


def max_values_per_token(config: DiTConfig) -> int:
    """An upper bound of the float32 values per token: rays, their copies, and the features."""
    return 8 * PATCH**2 * CHANNELS + 12 * config.dim
