"""A convolutional recurrent network that denoises latent frames in order, without attention.

As in the first Diffusion Forcing paper (arXiv 2407.01392, `df_video`): a state is carried from
latent frame to latent frame, whatever their noise levels, and each frame is denoised from the state
and itself. The cell is a ConvLSTM (arXiv 1506.04214). Level and prompt scale and shift its input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import FREQ_DIM
from .config import RecurrentConfig

FORGET_BIAS = 1.0
"""Added to the forget gate, so that a state lasts before training."""

LayerState = tuple[Tensor, Tensor]
"""Hidden state and cell of one layer, each (b, c, h, w)."""


class RecurrentLayer(nn.Module):
    """A ConvLSTM cell beside its input (b, c, h, w)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, dim)
        self.modulation = nn.Linear(dim, 2 * dim)
        self.gates = nn.Conv2d(2 * dim, 4 * dim, 3, padding=1)
        self.out = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Take x (b, c, h, w) under `condition` (b, c) and the state one latent frame further."""
        hidden, cell = state
        shift, scale = self.modulation(condition)[..., None, None].chunk(2, 1)
        y = self.norm(x) * (1 + scale) + shift
        write, keep, show, new = self.gates(torch.cat([y, hidden], 1)).chunk(4, 1)
        cell = torch.sigmoid(keep + FORGET_BIAS) * cell + torch.sigmoid(write) * torch.tanh(new)
        hidden = torch.sigmoid(show) * torch.tanh(cell)
        return x + self.out(F.silu(hidden)), (hidden, cell)


class RecurrentNetwork(nn.Module):
    """The module tree of a recurrent model; call `predict` of `forward.py`, not this."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        dim = config.dim
        self.dim, self.config = dim, config
        self.stem = nn.Conv2d(config.in_channels, dim, 3, padding=1)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(FREQ_DIM, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.layers = nn.ModuleList(RecurrentLayer(dim) for _ in range(config.num_layers))
        self.norm = nn.GroupNorm(1, dim)
        self.head = nn.Conv2d(dim, config.out_channels, 3, padding=1)
