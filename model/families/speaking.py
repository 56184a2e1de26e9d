"""Models that make a picture speak a given voice, chunk by chunk: AvatarForcing and LiveTalk."""

from __future__ import annotations

from dataclasses import replace

from .family import NON_COMMERCIAL, Family
from .presets import FEW_STEP

SHAPE = "i2v-voice"
NOTE = "a picture that speaks: connect a start picture and a voice"

SPEAKING = (
    Family(
        "avatar-forcing", "AvatarForcing 1.3B", SHAPE,
        "its README says Apache-2.0, its LICENSE.txt academic use only (that of Rolling Forcing)",
        "cuiliyuan121/AvatarForcing 63b73e6 configs/avatarforcing.yaml; wan/modules/"
        "causal_model.py: a sink of one latent frame, and two more of the 6 that it keeps; "
        "README.md: the raw copy, 25 frames a second",
        replace(FEW_STEP, chunk_frames=4, rolling_chunks=4,
                timesteps=(1000.0, 800.0, 400.0, 200.0), window_frames=3, sink_frames=1,
                anchored=True, picture_first=True, fps=25.0,
                note=NOTE),
        r"avatar_?forcing", copy="raw", adapter_alpha=64.0,
    ),
    Family(
        "livetalk", "LiveTalk 1.3B", SHAPE, NON_COMMERCIAL,
        "GAIR-NLP/LiveTalk 53b2c22 configs/causal_inference.yaml; scripts/inference_example.py: a "
        "sink of 9 latent frames, no re-rotation",
        replace(FEW_STEP, window_frames=12, sink_frames=9, distant_sink=True, width=512, height=512,
                note=NOTE),
        r"live_?talk",
    ),
)  # fmt: skip
"""The rows of the table."""
