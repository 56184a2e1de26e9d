"""A voice that moves a face: sound of the pictures of a latent frame, added to its tokens.

Source: OmniAvatar (Omni-Avatar/OmniAvatar, arXiv 2506.18866) `models/wan_video_dit.py` and
`models/audio_pack.py`, which LiveTalk (GAIR-NLP/LiveTalk 53b2c22) keeps. What wav2vec 2.0 base
hears during the four pictures of a latent frame becomes 32 numbers. From the third block to the
middle one, a layer of each block turns them into an addition to every token of the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .config import FRAMES_PER_LATENT, DiTConfig
from .hooks import Hooks

AUDIO_FEATURES = 14 * 768
"""Numbers of a picture: wav2vec's last layer, its embedding, and all of its 12 layers."""
HIDDEN = 32
AFTER = 1  # the block after which the first addition is made

Linear = Callable[[int, int], nn.Module]
"""Makes a linear layer from numbers of inputs and outputs."""


class SoundPack(nn.Module):
    """The sound of a latent frame's pictures (f, 4 x AUDIO_FEATURES) as 32 numbers (f, 32)."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.proj = linear(FRAMES_PER_LATENT * AUDIO_FEATURES, HIDDEN)
        self.norm_out = nn.LayerNorm(HIDDEN)

    def forward(self, features: Tensor) -> Tensor:
        packed: Tensor = self.norm_out(self.proj(features))
        return packed


def voice_layers(config: DiTConfig) -> int:
    """How many blocks of the model take an addition."""
    return config.num_layers // 2 - 1


def add_voice_layers(tree: Any, config: DiTConfig, linear: Linear) -> None:
    """Add the voice's layers, named as the authors do, to a module tree."""
    tree.audio_proj = SoundPack(linear)
    layers = (linear(HIDDEN, config.dim) for _ in range(voice_layers(config)))
    tree.audio_cond_projs = nn.ModuleList(layers)


def voice_hooks(tree: Any, features: Tensor) -> Hooks:
    """Add the voice of latent frames, `features` (f, 4 x AUDIO_FEATURES), to their tokens."""
    packed = tree.audio_proj(features)
    additions = [project(packed).unsqueeze(1) for project in tree.audio_cond_projs]  # (f, 1, c)

    def add(layer: int, tokens: Tensor) -> Tensor:
        i = layer - AFTER
        return additions[i] + tokens if 0 <= i < len(additions) else tokens

    return Hooks(after_block=(add,))
