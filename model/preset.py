"""What a family of models was trained to run with, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEMO_FOLDER = Path(__file__).parent / "demo"


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults of schedule, cache, guidance and picture; latent frames unless said otherwise."""

    chunk_frames: int
    steps: int
    shift: float
    guidance_scale: float
    window_frames: int
    sink_frames: int
    context_noise: float
    text_len: int
    fps: float
    width: int
    height: int


DEMO = Preset(
    chunk_frames=3, steps=4, shift=2.0, guidance_scale=2.5,
    window_frames=21, sink_frames=0, context_noise=0.0, text_len=24, fps=16.0, width=96, height=64,
)  # fmt: skip
