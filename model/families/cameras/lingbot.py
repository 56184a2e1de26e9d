"""LingBot-World: image to video with a camera, in few steps, with a distant sink."""

from __future__ import annotations

from dataclasses import replace

from ...preset import RENOISE, Preset
from ..family import APACHE, NON_COMMERCIAL, Family

SOURCE = (
    "robbyant/lingbot-world-v2 2648877 wan/image2video.py, generate.py, README.md; its defaults "
    "for a chunk of 3 are version 1's"
)

# Timesteps 0, 179, 358 and 679 of 1000 even ones from 999 on, before the shift.
FAST = Preset(
    chunk_frames=3, steps=4, shift=10.0, guidance_scale=1.0, window_frames=18, sink_frames=3,
    distant_sink=True, context_noise=0.0, text_len=512, fps=16.0, width=832, height=480,
    timesteps=(999.0, 820.179, 641.358, 320.679), whole_timesteps=True, solver=RENOISE,
    note="an image-to-video model that takes a camera: connect a start picture and a camera path",
)  # fmt: skip
CAUSAL_FAST = replace(
    FAST, chunk_frames=4, window_frames=14, sink_frames=6,
    timesteps=(999.0, 749.25, 499.5, 249.75),
)  # fmt: skip

LINGBOT_WORLD = (
    Family(
        "lingbot-world-2", "LingBot-World 2.0 causal fast", "i2v-camera", NON_COMMERCIAL,
        SOURCE, CAUSAL_FAST, r"lingbot.*(v2|2_0)",
    ),
    Family("lingbot-world-fast", "LingBot-World fast", "i2v-camera", APACHE, SOURCE, FAST),
)  # fmt: skip
"""The rows of the table: version 2 by its name, and version 1."""
