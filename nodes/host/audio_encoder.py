"""Audio features of a sound by the host's AUDIO_ENCODER, if it is wav2vec 2.0 base."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import BadInput
from ...kinds import kind_of
from .memory import claim

WIDTH, LAYERS = 768, 12  # of wav2vec 2.0 base
BYTES_PER_SAMPLE = 3 * 512 * 4 // 5  # of the first convolution: 512 channels, every fifth sample


def check_audio_encoder(encoder: Any) -> None:
    """Refuse (BadInput) an AUDIO_ENCODER that is anything else."""
    tree = encoder.model
    layers = getattr(getattr(tree, "encoder", None), "layers", ())
    projection = getattr(getattr(tree, "feature_projection", None), "projection", None)
    if projection is None or (projection.out_features, len(layers)) != (WIDTH, LAYERS):
        raise BadInput(
            f"The audio encoder is {kind_of(tree)} of another size than wav2vec 2.0 base; choose "
            "the file of wav2vec2-base-960h in Load Audio Encoder."
        )


@torch.no_grad()
def audio_features(encoder: Any, samples: Tensor, pictures: int) -> Tensor:
    """The features of `samples` (n,), 16,000 a second, at so many pictures from end to end.

    Returns (pictures, 14 x 768) float32 on the CPU: the last layer, then the embedding and every
    layer. The features are stretched to the pictures before the transformer hears them (OmniAvatar
    `models/wav2vec.py`).
    """
    claim([encoder.patcher], BYTES_PER_SAMPLE * len(samples))
    tree = encoder.model
    features = tree.feature_extractor(samples.unsqueeze(0).to(encoder.load_device))
    stretched = F.interpolate(
        features.transpose(1, 2), size=pictures, mode="linear", align_corners=True
    )
    last, layers = tree.encoder(tree.feature_projection(stretched.transpose(1, 2)))
    return torch.cat([last, *layers], -1)[0].float().cpu()
