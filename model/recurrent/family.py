"""The family of recurrent models that `training/train_recurrent.py` makes."""

from __future__ import annotations

from ..families.family import APACHE, Family
from ..preset import Preset

RECURRENT = Family(
    "recurrent", "a recurrent model", "recurrent", APACHE, "training/train_recurrent.py",
    Preset(
        chunk_frames=3, steps=8, shift=2.0, guidance_scale=2.0, window_frames=0, sink_frames=0,
        context_noise=0.0, text_len=24, fps=16.0, width=96, height=64, noisy_history=True,
        note="no attention: its past is a state of constant size; use prompt and VAE of the demo",
    ),
)  # fmt: skip
