"""Matrix-Game 2: image to video with keys and a mouse, in few steps, without a prompt."""

from __future__ import annotations

from dataclasses import replace

from ..family import Family
from ..presets import FEW_STEP

SHAPE = "i2v-keys"
LICENCE = "MIT"
CODE = "zoheth/Matrix-Game 62dedd1 Matrix-Game-2/"
NOTE = (
    "it reads no prompt: connect a start picture with its CLIP vision output, and a camera path, "
    "whose moves and turns are its keys and its mouse"
)

# The text is the 257 tokens of CLIP vision. Windows of 6 and 4 latent frames include the chunk.
# 12 fps: utils/visualize.py:167.
UNIVERSAL = replace(
    FEW_STEP, steps=3, timesteps=(1000.0, 666.0, 333.0), window_frames=3, fps=12.0, text_len=257,
    width=640, height=352, note=NOTE,
)  # fmt: skip
DRIVE = replace(UNIVERSAL, window_frames=1, note=f"{NOTE}; it drives a car")

MATRIX_GAME = (
    Family(
        "matrix-game-2-drive", "Matrix-Game 2 GTA Drive", f"{SHAPE}-2", LICENCE,
        f"{CODE}configs/distilled_model/gta_drive, configs/inference_yaml", DRIVE,
    ),
    Family(
        "matrix-game-2", "Matrix-Game 2", f"{SHAPE}-4", LICENCE,
        f"{CODE}configs/distilled_model/universal, configs/inference_yaml", UNIVERSAL,
    ),
)  # fmt: skip
"""The rows of the table, told apart by their number of keys."""
