"""LiveTalk: a picture that speaks a given voice, chunk by chunk."""

from __future__ import annotations

from dataclasses import replace

from .family import NON_COMMERCIAL, Family
from .presets import FEW_STEP

LIVETALK = (
    Family(
        "livetalk", "LiveTalk 1.3B", "i2v-voice", NON_COMMERCIAL,
        "GAIR-NLP/LiveTalk 53b2c22 configs/causal_inference.yaml; scripts/inference_example.py: a "
        "sink of 9 latent frames, no re-rotation",
        replace(FEW_STEP, window_frames=12, sink_frames=9, distant_sink=True, width=512, height=512,
                note="a picture that speaks: connect a start picture and a voice"),
    ),
)  # fmt: skip
"""The rows of the table."""
