"""LingBot-World's camera: rays of every pixel scale and shift the tokens of every block.

Source: Robbyant/lingbot-world 6ca87d4 (Apache-2.0), `wan/modules/model.py` and
`wan/utils/cam_utils.py`. The camera of a latent frame is told relative to the frame before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...machine.uploads import upload
from ..arithmetic.modulation import modulate
from ..config import PATCH, DiTConfig
from ..hooks import Hooks
from .frames import CameraFrames

CPU = torch.device("cpu")
PIXELS = 8  # rows and columns of a latent cell
RAY = 6  # origin, then direction
RAY_FEATURES = RAY * PIXELS**2 * PATCH**2
ROOT_LAYERS = "patch_embedding_wancamctrl", "c2ws_hidden_states_layer1", "c2ws_hidden_states_layer2"
BLOCK_LAYERS = "cam_injector_layer1", "cam_injector_layer2", "cam_scale_layer", "cam_shift_layer"


def add_plucker_layers(
    tree: Any, config: DiTConfig, linear: Callable[[int, int], nn.Module]
) -> None:
    """Add the camera's layers, named as the authors do, to a module tree."""
    dim = config.dim
    for name in ROOT_LAYERS:
        inputs = RAY_FEATURES if name == ROOT_LAYERS[0] else dim
        setattr(tree, name, linear(inputs, dim))
    for block in tree.blocks:
        for name in BLOCK_LAYERS:
            setattr(block, name, linear(dim, dim))


def rays(camera: CameraFrames, device: torch.device = CPU) -> Tensor:
    """Origin and direction of the ray through each pixel (f, h, w, 6), float32.

    The camera of a frame lies in the axes of the frame before. Pixels count from their middle.
    """
    size = camera.rows, camera.columns
    steps = upload(camera.steps.float(), device)
    directions = pixel_directions(camera.lenses, size, device) @ steps[:, :3, :3].transpose(1, 2)
    origins = steps[:, None, :3, 3].expand_as(directions)
    both: Tensor = torch.cat([origins, directions], -1)
    pixels: Tensor = both.unflatten(1, (PIXELS * size[0], PIXELS * size[1]))
    return pixels


def pixel_directions(lenses: Tensor, size: tuple[int, int], device: torch.device) -> Tensor:
    """Unit vectors (f, h w, 3) through the middle of each pixel, in the camera's own axes.

    `size` counts latent rows and columns.
    """
    height, width = (PIXELS * side for side in size)
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) / height,
        (torch.arange(width, device=device) + 0.5) / width,
        indexing="ij",
    )
    lens = upload(lenses.float(), device)[:, :, None, None]
    focal_x, focal_y, centre_x, centre_y = lens.unbind(1)
    across, below = (x - centre_x) / focal_x, (y - centre_y) / focal_y  # (f, h, w)
    directions = torch.stack([across, below, torch.ones_like(across)], -1)
    return F.normalize(directions, dim=-1).flatten(1, 2)


def ray_features(camera: CameraFrames, device: torch.device = CPU) -> Tensor:
    """The rays of each token (f, s, RAY_FEATURES), as the authors order them."""
    folded = rearrange(
        rays(camera, device), "f (h a) (w b) c -> f (c a b) h w", a=PIXELS, b=PIXELS
    )  # per latent cell
    features: Tensor = rearrange(folded, "f c (h p) (w q) -> f (h w) (c p q)", p=PATCH, q=PATCH)
    return features


def max_values_per_token(config: DiTConfig) -> int:
    """An upper bound of the float32 values per token: rays and their copies, scales and shifts."""
    return 6 * RAY_FEATURES + (2 * config.num_layers + 8) * config.dim


class RayModulation:
    """Scales and shifts of every block for the frames of one chunk, computed once."""

    def __init__(self, tree: Any, camera: CameraFrames) -> None:
        self._tree, self._camera = tree, camera
        self._embedded: Tensor | None = None
        self._by_layer: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, tokens: Tensor) -> Tensor:
        """Scale and shift tokens (b, f, s, c) after self-attention."""
        if layer not in self._by_layer:
            self._by_layer[layer] = self._of(self._tree.blocks[layer], self._embed(tokens))
        scale, shift = self._by_layer[layer]
        return modulate(tokens, shift, scale)

    def _embed(self, like: Tensor) -> Tensor:
        """The embedded rays (f, s, c), on the device and in the dtype of `like`."""
        if self._embedded is None:
            first, hidden, last = (getattr(self._tree, name) for name in ROOT_LAYERS)
            features = first(ray_features(self._camera, like.device).to(like.dtype))
            self._embedded = features + last(F.silu(hidden(features)))
        return self._embedded

    @staticmethod
    def _of(block: Any, embedded: Tensor) -> tuple[Tensor, Tensor]:
        hidden, last, scale, shift = (getattr(block, name) for name in BLOCK_LAYERS)
        features = embedded + last(F.silu(hidden(embedded)))
        return scale(features), shift(features)


def plucker_hooks(tree: Any, camera: CameraFrames) -> Hooks:
    """Modulate every block by the camera's rays."""
    return Hooks(after_attention=(RayModulation(tree, camera),))
