"""The oracle: a tiny network that reads the world's attributes back from three frames.

`training/train_oracle.py` trains it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...model.checkpoint import read
from ..world.scene import ATTRIBUTE_SIZE, SLICES

BASELINE = 4  # frames between two of the three pictures
SPAN = 2 * BASELINE + 1  # frames that one reading covers


class Oracle(nn.Module):
    """Three RGB frames (b, 9, H, W) in [0, 1] to logits of all values (b, ATTRIBUTE_SIZE)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(9, 24, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(24, 48, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.out = nn.Linear(128, ATTRIBUTE_SIZE)

    def forward(self, frames: Tensor) -> Tensor:
        features = self.layers(frames - 0.5).flatten(2)
        logits: Tensor = self.out(torch.cat([features.mean(-1), features.amax(-1)], -1))
        return logits


def triples(video: Tensor, at: Tensor) -> Tensor:
    """Stack frames `at`, `at` + 4 and `at` + 8 of video (t, 3, H, W) as (k, 9, H, W)."""
    return torch.cat([video[at + BASELINE * i] for i in range(3)], 1)


@torch.no_grad()
def read_attributes(oracle: Oracle, video: Tensor, at: Tensor) -> dict[str, Tensor]:
    """Return each attribute's value index (k,), read at frames `at` (k,) of video (t, 3, H, W)."""
    logits = oracle(triples(video, at))
    return {name: logits[:, part].argmax(-1) for name, part in SLICES.items()}


def load_oracle(path: Path) -> Oracle:
    oracle = Oracle()
    oracle.load_state_dict({key: value.float() for key, value in read(path)[0].items()})
    return oracle.eval().requires_grad_(False)
